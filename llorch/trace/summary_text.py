"""A summary as plain, aligned text."""

from __future__ import annotations

from collections.abc import Sequence

from llorch.trace.summary import Part, Spent, Summary

_HEADER = ("ms", "share", "wait ms", "n", "MB", "GB/s", "GMAC/s", "roofline")


def summary_text(summary: Summary) -> str:
    """All of it: a table of operations and one of layers for each part, then the totals."""
    paragraphs = [text for part in summary.parts for text in _part(part)]
    return "\n\n".join([*paragraphs, _totals(summary)])


def _part(part: Part) -> list[str]:
    steps = "step" if part.n_steps == 1 else "steps"
    title = f"{part.name}: {part.n_rows} rows in {part.n_steps} {steps}, {part.seconds * 1e3:.2f} ms"
    rest = (
        ("at barriers", part.waiting_s),
        ("scheduling", part.scheduling_s),
        ("calling", part.calling_s),
        ("sampling", part.sampling_s),
        ("all", part.seconds),
    )
    operations = [_row(label, spent, part.seconds) for label, spent in part.operations.items()]
    operations += [[name, *_time(seconds, part.seconds)] for name, seconds in rest]
    layers = [
        _row("outside" if layer < 0 else str(layer), spent, part.seconds)
        for layer, spent in part.layers.items()
    ]
    return [f"{title}\n{_table('operation', operations)}", _table(f"{part.name}: layer", layers)]


def _time(seconds: float, whole: float) -> list[str]:
    return [f"{seconds * 1e3:.2f}", f"{seconds / whole:.1%}"]


def _row(name: str, spent: Spent, whole: float) -> list[str]:
    return [
        name,
        *_time(spent.seconds, whole),
        f"{spent.waiting_s * 1e3:.2f}",
        str(spent.n),
        f"{spent.n_bytes / 1e6:.1f}",
        f"{spent.gb_s:.1f}",
        f"{spent.gmac_s:.1f}",
        f"{spent.roofline:.0%}",
    ]


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    lines = [[title, *_HEADER], *rows]
    n = len(lines[0])
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(n)]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=False)),
            ]
        )
        for line in lines
    )


def _totals(summary: Summary) -> str:
    roof = summary.roofline
    times = [f"{part.name} {part.seconds * 1e3:.2f} ms" for part in summary.parts]
    lines = [
        f"in all {summary.seconds * 1e3:.2f} ms: {', '.join(times)}, between steps {summary.between_s * 1e3:.2f} ms",
        f"roofline, measured in this run: memory {roof.bytes_per_s / 1e9:.1f} GB/s, first caches "
        f"{roof.cache_bytes_per_s / 1e9:.0f} GB/s, integers {roof.integer_macs_per_s / 1e9:.0f} GMAC/s, BF16 "
        f"{roof.bfloat_macs_per_s / 1e9:.0f} GMAC/s, float32 {roof.float_macs_per_s / 1e9:.0f} GMAC/s",
    ]
    if summary.n_dropped:
        lines.append(f"{summary.n_dropped} later steps were not kept: they count as between steps")
    return "\n".join(lines)
