"""The tables and paragraphs of a page, as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llorch.report.bundle_figures import BundleFigures
from llorch.report.compared import Compared
from llorch.report.escaped import Marked, table, text
from llorch.report.trace_file import OperationFigures, TraceSummary
from llorch.validation.checkpoints import TableRow
from llorch.validation.findings import WAYS
from llorch.validation.tolerances import CHECKPOINTS


def checkpoints(compared: Sequence[Compared]) -> str:
    """The twelve checkpoints against each reference."""
    parts = ["<h2>Checkpoints</h2>"] if compared else []
    for result in compared:
        rows = {(row.number, row.way): row for row in result.rows}
        lines = []
        for checkpoint in CHECKPOINTS:
            cells: list[object] = [checkpoint.number, checkpoint.title]
            for way in WAYS:
                cells += _verdict_cells(rows.get((checkpoint.number, way)))
            lines.append(cells)
        caption = f"{result.label}, against {result.against}: {'passed' if result.passed else 'FAILED'}"
        head = ("#", "checkpoint", *(name for way in WAYS.values() for name in (way, "worst", "tolerance")))
        parts.append(table(caption, head, lines))
    return "\n".join(parts)


def _verdict_cells(row: TableRow | None) -> tuple[object, str, str]:
    if row is None:
        return "", "", ""
    if row.worst is None:
        return row.verdict, row.reason, ""
    verdict = Marked.verdict(row.verdict == "pass", row.verdict)
    return verdict, f"{row.worst.difference} ({row.worst})", str(row.worst.tolerance)


def totals(trace: TraceSummary) -> str:
    """Where the time went, by operation."""
    sums = {label: list(of_layer.values()) for label, of_layer in trace.operations.items()}
    seconds = {label: sum(found.seconds for found in of_layer) for label, of_layer in sums.items()}
    whole = sum(seconds.values()) or 1.0
    rows = []
    for label in sorted(sums, key=lambda label: -seconds[label]):
        took, found = seconds[label], sums[label]
        rows.append(
            (
                label,
                len(found),
                sum(figures.n for figures in found),
                f"{took * 1e3:.3f}",
                f"{100 * took / whole:.1f} %",
                _rate(sum(figures.bytes for figures in found), took),
                _rate(sum(figures.macs for figures in found), took),
                _share(found),
            )
        )
    head = ("operation", "layers", "times", "ms", "of all", "GB/s", "GMAC/s", "of the roofline")
    caption = f"All steps together: {whole * 1e3:.3f} ms in operations"
    return "<h2>Time by operation</h2>" + table(caption, head, rows, numbers=range(1, len(head)))


def _rate(amount: float, seconds: float) -> str:
    return f"{amount / seconds / 1e9:.2f}" if amount and seconds else "–"


def _share(found: Sequence[OperationFigures]) -> str:
    """Least time over measured time of all layers together."""
    known = [(figures.roofline * figures.seconds, figures.seconds) for figures in found if figures.roofline]
    seconds = sum(took for _, took in known)
    return f"{100 * sum(least for least, _ in known) / seconds:.0f} %" if seconds else "–"


def bundle_tables(figures: BundleFigures) -> str:
    """Figures of a bundle without a map."""
    parts = [table(found.caption, found.head, found.rows, found.numbers) for found in figures.tables]
    return "\n".join(["<h2>Figures of the bundle</h2>", *parts] if parts else [])


def limits(trace: TraceSummary | None, compared: Sequence[Compared], figures: BundleFigures | None) -> str:
    """What a reader must not conclude."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in _limit_lines(trace, compared, figures))}</ul>"


def _limit_lines(
    trace: TraceSummary | None, compared: Sequence[Compared], figures: BundleFigures | None
) -> Iterator[str]:
    if trace:
        yield (
            "Times are of one run on one machine, from the first thread's begin to the last thread's end of an "
            "operation. Scheduling, sampling and what lies between operations are in the trace, not in the map."
        )
        if trace.n_dropped_steps:
            yield f"{trace.n_dropped_steps} later steps are not in the trace: they were too many."
        if trace.roofline is None:
            yield "The trace has no roofline: how near an operation is to what the machine can do is not shown."
    if trace and compared:
        yield (
            "Differences were taken in another run than the times: the same prompt, observed, with a float32 "
            f"cache (the timed run's is {trace.kv_type}) and the reference's own tokens after it."
        )
    for result in compared:
        if missing := result.n_layer - len(result.layers):
            yield (
                f"The {result.label} reference holds {len(result.layers)} of {result.n_layer} layers in full; "
                f"of the other {missing} only the output was compared."
            )
    if compared:
        programs = " and ".join(sorted({result.against.split()[0] for result in compared}))
        yield (
            f"The reference is {programs}, not exact arithmetic: a fault that both share is not found. It is about one "
            "prompt; other prompts, longer contexts and sampling are not covered."
        )
    elif trace:
        yield "Nothing was compared: the trace was taken without --reference, so the values may be wrong."
    if figures and figures.compared and not trace:
        yield "The bundle has no times; `llorch trace` takes them."
    if figures and not figures.compared:
        yield f"A {figures.bundle.index.kind} bundle says nothing about the values that a model computes."
