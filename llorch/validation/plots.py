"""Plots of a proof bundle: curves and bars over a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llorch.validation.canvas import BLACK, GREY, PALE, RED, SERIES, Canvas
from llorch.validation.stroke_font import text_width

_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 28, 64, 58


def curves(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    limits: Mapping[str, float],
    floor: float,
) -> bytes:
    """Lines over a logarithmic y axis, as PNG.

    Args:
        title: above the plot.
        x_label: what x counts.
        y_label: what y is.
        series: points (x, y) by name; values below `floor` are drawn on it.
        limits: horizontal dashed lines by the name of the series they belong to.
        floor: lowest y that is shown.
    """
    canvas = Canvas(920, 480)
    values = [y for points in series.values() for _, y in points if math.isfinite(y)] + list(limits.values())
    low = math.floor(math.log10(floor))
    high = max(low + 1, math.ceil(math.log10(max([*values, floor])) + 0.3))
    most = max([x for points in series.values() for x, _ in points] + [1.0])
    width, height = canvas.width - _LEFT - _RIGHT, canvas.height - _TOP - _BOTTOM

    def spot(x: float, y: float) -> tuple[float, float]:
        exponent = high if not math.isfinite(y) else math.log10(max(y, floor))
        share = (min(max(exponent, low), high) - low) / (high - low)
        return _LEFT + 12 + (width - 24) * x / most, _TOP + height * (1 - share)

    _title(canvas, title)
    step = max(1, math.ceil((high - low) / 8))
    for exponent in range(low, high + 1, step):
        y = spot(0, 10.0**exponent)[1]
        canvas.line([(_LEFT, y), (canvas.width - _RIGHT, y)], PALE, 1)
        canvas.text((_LEFT - 8, y + 5), f"1e{exponent}", GREY, 10, anchor=1)
    for x in range(0, int(most) + 1, max(1, math.ceil(most / 16))):
        canvas.text((spot(x, floor)[0], _TOP + height + 20), str(x), GREY, 10, anchor=0.5)
    canvas.line([(_LEFT, _TOP), (_LEFT, _TOP + height), (canvas.width - _RIGHT, _TOP + height)], GREY, 1)
    canvas.text((_LEFT + width / 2, canvas.height - 12), x_label, BLACK, 11, anchor=0.5)
    canvas.text((16, _TOP - 14), y_label, BLACK, 11)
    for number, (name, points) in enumerate(series.items()):
        colour = SERIES[number % len(SERIES)]
        places = [spot(x, y) for x, y in points]
        canvas.line(places, colour, 2.2)
        for place in places:
            canvas.line([place], colour, 7)
        if name in limits:
            y = spot(0, limits[name])[1]
            canvas.line([(_LEFT, y), (canvas.width - _RIGHT, y)], colour, 1.4, dash=7)
            canvas.text((canvas.width - _RIGHT - 4, y - 6), f"allowed: {name}", colour, 10, anchor=1)
    _legend(canvas, list(series))
    return canvas.png()


def bars(
    title: str, x_label: str, rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str]
) -> bytes:
    """Horizontal bars of shares of what was allowed, over a logarithmic scale that ends in a red line at 1.

    Args:
        title: above the plot.
        x_label: what the bars measure.
        rows: label and one value per series; 0 is drawn as ``exact``, NaN is left out.
        names: the series.
    """
    n, thick = len(names), 9
    pitch = n * thick + 9
    canvas = Canvas(920, 2 * _TOP + 12 + pitch * len(rows))
    left = 40 + max((text_width(label, 10.5) for label, _ in rows), default=0.0)
    width = canvas.width - left - 100
    low, bottom = -6.0, _TOP + pitch * len(rows)

    def place(value: float) -> float:
        exponent = 1.0 if not math.isfinite(value) else math.log10(max(value, 1e-12))
        return left + width * (min(max(exponent, low), 0.6) - low) / (0.6 - low)

    _title(canvas, title)
    for exponent in range(int(low), 1):
        x = place(10.0**exponent)
        canvas.line([(x, _TOP), (x, bottom)], PALE, 1)
        text = f"{100 * 10.0**exponent:g} %"
        canvas.text((x, bottom + 18), text, GREY, 10, anchor=0.5)
    for number, (label, values) in enumerate(rows):
        top = _TOP + 6 + pitch * number
        canvas.text((left - 12, top + n * thick / 2 + 5), label, BLACK, 10.5, anchor=1)
        for i, value in enumerate(values):
            y, colour = top + i * thick, RED if value > 1 else SERIES[i % len(SERIES)]
            if math.isnan(value):
                continue
            canvas.box(left, y, max(2.0, place(value) - left) if value > 0 else 2.0, thick - 2, colour)
            if value == 0:
                canvas.text((left + 8, y + thick - 2.5), "exact", GREY, 6.5)
    x = place(1.0)
    canvas.line([(x, _TOP - 4), (x, bottom)], RED, 2)
    canvas.text((canvas.width / 2, canvas.height - 20), x_label, BLACK, 11, anchor=0.5)
    _legend(canvas, names)
    return canvas.png()


def _title(canvas: Canvas, title: str) -> None:
    canvas.text((16, 28), title, BLACK, 14)


def _legend(canvas: Canvas, names: Sequence[str]) -> None:
    end = float(canvas.width - _RIGHT)
    for number, name in reversed(list(enumerate(names))):
        canvas.text((end, _TOP - 14), name, SERIES[number % len(SERIES)], 11, anchor=1)
        end -= text_width(name, 11) + 24
