"""Pictures of measurements and validations, as PNG: curves, speeds, and grouped bars. Drawn by matplotlib.

matplotlib comes with the extra `plots`; without it, or a folder that it can write to, every function returns None. The
same input gives the same bytes on the same matplotlib, whatever its settings files say.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

HOW_TO_GET = "Pictures are drawn by matplotlib: `pip install 'llorch[plots]'`."
"""What a summary says where a picture is missing."""

_COLOURS = ("#1f69aa", "#d97814", "#3c8c46", "#8250a0", "#8c6d31", "#17808f", "#b04a7a", "#5a6a7a")
_RED, _GREY = "#c82828", "#787878"
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "font.size": 10.5,
    "grid.color": "#e2e2e2",
    "legend.frameon": False,
    "text.parse_math": False,  # names of files and models may hold dollar signs
}
_WIDTH = 920
"""Pixels. Text stays readable when a page shows the picture 800 wide."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        value: its length.
        text: written at its end.
        spread: least and most, drawn as a whisker; None for none.
    """

    value: float
    text: str = ""
    spread: tuple[float, float] | None = None


def curves(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    limits: Mapping[str, float],
    floor: float,
    note: str,
) -> bytes | None:
    """Lines over a logarithmic y axis.

    Args:
        title: above the picture.
        x_label: what the whole numbers x count.
        y_label: what y is.
        series: points (x, y) by name; y below `floor` is drawn on it, what is not finite at the top.
        limits: what is allowed, by the name of the series; a dashed line.
        floor: lowest y that is shown.
        note: kept in the file as its comment.
    """
    values = [y for points in series.values() for _, y in points if math.isfinite(y)]
    top = 20 * max([*values, *limits.values(), floor])

    def draw(each: Sequence[Axes]) -> None:
        (axes,) = each
        for colour, (name, points) in zip(_colours(len(series)), series.items(), strict=True):
            ys = [min(max(y, floor), top) if math.isfinite(y) else top for _, y in points]
            axes.plot([x for x, _ in points], ys, "o-", color=colour, markersize=5, label=name, clip_on=False)
            if name in limits:
                axes.axhline(
                    limits[name], color=colour, linestyle="--", linewidth=1, label=f"{name}: allowed"
                )
        axes.set(title=title, xlabel=x_label, ylabel=y_label, yscale="log", ylim=(floor, top))
        axes.locator_params("x", integer=True)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0e}")

    return png(460, draw, note)


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over the number of something that is doubled again and again.

    Attributes:
        x_label: what the numbers x, which are not negative, count.
        series: points (x, y, spread) by name; the spread is drawn to both sides of y.
        limits: points (x, y) that the series of the same name cannot go beyond, a dashed line.
    """

    x_label: str
    series: Mapping[str, Sequence[tuple[float, float, float]]]
    limits: Mapping[str, Sequence[tuple[float, float]]]


def speeds(title: str, y_label: str, panels: Sequence[Panel], note: str) -> bytes | None:
    """Panels below each other, with logarithmic y axes.

    Args:
        title: above the picture.
        y_label: what y is.
        panels: at least one.
        note: kept in the file as its comment.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colours = dict(zip(names, _colours(len(names)), strict=True))

    def draw(axes: Axes, panel: Panel) -> None:
        from matplotlib.ticker import LogFormatter

        for name, points in panel.series.items():
            xs, ys, spreads = zip(*sorted(points), strict=True)
            axes.errorbar(xs, ys, spreads, fmt="o-", color=colours[name], markersize=5, capsize=3, label=name)
        for name, limit in panel.limits.items():
            if len(limit) == 1:  # a line of one point would not be seen
                axes.axhline(limit[0][1], linestyle="--", color=colours[name], linewidth=1)
            else:
                axes.plot(*zip(*sorted(limit), strict=True), "--", color=colours[name], linewidth=1)
        places = sorted({x for points in panel.series.values() for x, _, _ in points})
        if places[0] > 0:
            axes.set_xscale("log", base=2)
        elif len(places) > 1:
            axes.set_xscale("symlog", base=2, linthresh=places[1])
        axes.set_xticks(places, [f"{x:,g}" for x in places], minor=False)
        axes.minorticks_off()
        axes.set(xlabel=panel.x_label, ylabel=y_label, yscale="log")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,g}")
        axes.yaxis.set_minor_formatter(
            LogFormatter()
        )  # the usual one writes formulas, which are not set here

    def draw_all(each: Sequence[Axes]) -> None:
        each[0].set_title(title)
        for axes, panel in zip(each, panels, strict=True):
            draw(axes, panel)
        if any(panel.limits for panel in panels):
            each[0].plot([], [], "--", color=_GREY, linewidth=1, label="limit of the machine")

    return png(100 + 360 * len(panels), draw_all, note, len(panels))


def bars(
    title: str,
    x_label: str,
    rows: Sequence[tuple[str, Sequence[Bar | None]]],
    names: Sequence[str],
    *,
    x_range: tuple[float, float],
    x_text: Callable[[float], str],
    note: str,
    limit: float | None = None,
) -> bytes | None:
    """Groups of horizontal bars over a logarithmic x axis.

    Args:
        title: above the picture.
        x_label: what the bars measure.
        rows: label of each group, and a bar for every one of `names`; None leaves it out.
        names: what the bars of a group stand for.
        x_range: ends of the axis; bars are cut off there.
        x_text: words for a number of the axis.
        note: kept in the file as its comment.
        limit: what is allowed, a red line; bars beyond it are red.
    """
    least, most = x_range
    thickness = 0.8 / len(names)

    def draw(each: Sequence[Axes]) -> None:
        (axes,) = each
        for i, (colour, name) in enumerate(zip(_colours(len(names)), names, strict=True)):
            axes.barh([math.nan], [1], color=colour, label=name)  # for the legend; any real bar may be red
            for at, (_, group) in enumerate(rows):
                if (bar := group[i]) is None:
                    continue
                y = at + (i - (len(names) - 1) / 2) * thickness
                end = min(max(bar.value, least), most) if math.isfinite(bar.value) else most
                beyond = limit is not None and end > limit
                axes.barh(y, end - least, 0.9 * thickness, least, color=_RED if beyond else colour)
                if bar.spread:
                    axes.plot(bar.spread, (y, y), "|-", color="black", linewidth=1)
                at_end = max(end, bar.spread[1] if bar.spread else 0)
                axes.annotate(
                    bar.text, (at_end, y), (5, 0), textcoords="offset points", va="center", size=8.5
                )
        if limit is not None:
            axes.axvline(limit, color=_RED, label="allowed")
        axes.set(title=title, xlabel=x_label, xscale="log", xlim=x_range, ylim=(len(rows) - 0.5, -0.5))
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.tick_params("y", length=0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(lambda x, _: x_text(x))

    return png(120 + len(rows) * (12 * len(names) + 8), draw, note)


def _colours(n: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(n)]


def png(height: int, draw: Callable[[Sequence[Axes]], None], note: str, n_axes: int = 1) -> bytes | None:
    """Draw pairs of axes below each other, and a legend without repetitions; None without a matplotlib that works."""
    if find_spec("matplotlib") is None:
        return None
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image, PngImagePlugin
    except OSError as error:  # it keeps a list of fonts, and finds no folder for it
        logger.warning("no pictures: %s", error)
        return None

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font lacks is drawn as a box
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        canvas = FigureCanvasAgg(
            Figure(((_WIDTH + 0.5) / 100, (height + 0.5) / 100), dpi=100, layout="constrained")
        )
        each = canvas.figure.subplots(n_axes, squeeze=False)[:, 0]
        draw(each)
        shown = {
            label: handle
            for axes in each
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        canvas.figure.legend(shown.values(), shown, loc="outside upper right", ncols=4)
        canvas.draw()
    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", note)
    written = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    # 128 colours are enough for smooth edges and take a third of the bytes.
    Image.fromarray(pixels).quantize(128).save(written, "png", optimize=True, pnginfo=comment)
    return written.getvalue()
