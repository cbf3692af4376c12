"""The picture of `llorch trace --plot FILE`: time of every layer by operation, and operations under the roofline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llorch.bench.plots import png
from llorch.trace.summary import Part, Spent, Summary
from llorch.version import __version__

_COLOURS = (
    "#1f69aa", "#8fbce0", "#d97814", "#f2bd85", "#3c8c46", "#9ccf9f", "#c82828", "#ee9a94", "#8250a0", "#c3a9d6",
    "#7a5035", "#c3a08f", "#c65aa0", "#eeb0d4", "#5c5c5c", "#b4b4b4", "#9a9a1c", "#d4d37c", "#17808f", "#93d3dc",
    "#20347a", "#d4007a", "#00b060")  # fmt: skip
_MARKERS = {"prompt": "o", "decode": "^"}
_PANEL_PIXELS, _MARGIN_PIXELS = 330, 190
_LEAST_SHARE = 0.002
"""Of a part's time, from which an operation is a point under the roof."""

Draw = Callable[[Any], None]


def summary_picture(summary: Summary, title: str) -> bytes | None:
    """Bars of every layer for each part, then all operations under the roof, as PNG; None without matplotlib.

    Args:
        summary: what was spent.
        title: above the picture.
    """
    labels = list(dict.fromkeys(label for part in summary.parts for label, _ in part.cells))
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    draws: list[Draw] = [
        _layers(part, colours, title if i == 0 else "") for i, part in enumerate(summary.parts)
    ]
    draws.append(_roofline(summary, colours))

    def draw_all(each: Sequence[Any]) -> None:
        for axes, draw in zip(each, draws, strict=True):
            draw(axes)

    return png(
        _MARGIN_PIXELS + _PANEL_PIXELS * len(draws), draw_all, f"llorch {__version__} trace", len(draws)
    )


def _layers(part: Part, colours: dict[str, str], title: str) -> Draw:
    layers = list(part.layers)
    n, every = len(layers), len(layers) // 24 + 1
    places = [-1 - n / 16 if layer < 0 else layer for layer in layers]
    names = {
        place: "outside" if place < 0 else f"{place}" for place in places if place < 0 or place % every == 0
    }

    def draw(axes: Any) -> None:
        tops = [0.0] * len(layers)
        for label in colours:
            heights = [part.cells.get((label, layer), Spent()).seconds * 1e3 for layer in layers]
            axes.bar(places, heights, 0.8, tops, color=colours[label], label=label)
            tops = [top + height for top, height in zip(tops, heights, strict=True)]
        waits = [spent.waiting_s * 1e3 for spent in part.layers.values()]
        axes.bar(
            places, waits, 0.8, tops, color="white", edgecolor="#787878", hatch="///", label="at barriers"
        )
        steps = "step" if part.n_steps == 1 else "steps"
        what = f"{part.name}: {part.n_rows} rows in {part.n_steps} {steps}"
        axes.set(title=f"{title}\n{what}" if title else what, xlabel="layer", ylabel="ms")
        axes.set_xticks(list(names), list(names.values()))
        axes.margins(x=0.01)
        axes.grid(visible=False, axis="x")

    return draw


def _roofline(summary: Summary, colours: dict[str, str]) -> Draw:
    roof = summary.roofline

    def draw(axes: Any) -> None:
        points = [
            (part.name, label, spent)
            for part in summary.parts
            for label, spent in part.operations.items()
            if spent.n_macs and spent.seconds > _LEAST_SHARE * part.seconds
        ]
        most = max((spent.n_macs / spent.n_bytes for _, _, spent in points), default=1.0)
        ends = (min((spent.n_macs / spent.n_bytes for _, _, spent in points), default=0.1) / 2, most * 4)
        top = max(roof.integer_macs_per_s, roof.bfloat_macs_per_s, roof.float_macs_per_s)
        for name, bandwidth, style in (
            ("memory", roof.bytes_per_s, "-"),
            ("first caches", roof.cache_bytes_per_s, ":"),
        ):
            xs = [ends[0], min(ends[1], top / bandwidth)]
            axes.plot(xs, [x * bandwidth / 1e9 for x in xs], style, color="#787878", linewidth=1)
            axes.annotate(
                f"{name} {bandwidth / 1e9:.0f} GB/s", (xs[0], xs[0] * bandwidth / 1e9), (6, 16),
                textcoords="offset points", size=8.5,
            )  # fmt: skip
        peaks = {"integers": roof.integer_macs_per_s, "float32": roof.float_macs_per_s}
        if roof.bfloat_macs_per_s > 1.1 * roof.float_macs_per_s:
            peaks["BF16"] = roof.bfloat_macs_per_s
        for name, peak in peaks.items():
            axes.plot(
                [peak / roof.cache_bytes_per_s, ends[1]], [peak / 1e9] * 2, color="#787878", linewidth=1
            )
            axes.annotate(
                f"{name} {peak / 1e9:.0f} GMAC/s", (ends[1], peak / 1e9), (-4, 4), ha="right",
                textcoords="offset points", size=8.5,
            )  # fmt: skip
        for name, label, spent in points:
            at = (spent.n_macs / spent.n_bytes, spent.gmac_s)
            axes.plot(*at, _MARKERS[name], color=colours[label], markersize=8, markeredgecolor="black")
        for name in dict.fromkeys(name for name, _, _ in points):
            axes.plot([], [], _MARKERS[name], color="white", markeredgecolor="black", label=f"of {name}")
        axes.set(title="operations under the roofline measured in this run", xscale="log", yscale="log")
        axes.set(xlabel="multiply-adds per byte", ylabel="GMAC/s", xlim=ends)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")

    return draw
