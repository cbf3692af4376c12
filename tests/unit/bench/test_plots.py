"""Pictures are small PNG files with the right colours, the same ones each time; none without matplotlib."""

from __future__ import annotations

import io
import math
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from numpy.typing import NDArray
from PIL import Image

from llorch.bench import plots
from llorch.bench.plots import Bar, Panel, bars, curves, speeds

BLUE, ORANGE, RED = (31, 105, 170), (217, 120, 20), (200, 40, 40)
NOTE = "llorch; generated"


def pixels_of(png: bytes | None) -> NDArray[np.uint8]:
    assert png is not None
    image = Image.open(io.BytesIO(png))
    assert image.info == {"Comment": NOTE}
    assert image.width == 920
    return np.asarray(image.convert("RGB"))


def n_of_colour(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    """Pixels of about this colour."""
    return int((np.abs(pixels.astype(int) - colour).max(-1) < 12).sum())


def some_curves(file: str = "m.gguf") -> bytes | None:
    series = {"native": [(0.0, 0.0), (1.0, math.inf), (2.0, 1e-9), (3.0, math.nan)], "f32": []}
    return curves(f"Drift: {file}", "layer", "NMSE", series, {"native": 1e-4}, 1e-16, NOTE)


def some_bars(*groups: tuple[Bar | None, Bar | None]) -> bytes | None:
    rows = [(f"stage {i}", group) for i, group in enumerate(groups)]
    names = ["native", "f32"]
    return bars(
        "Worst", "share", rows, names, x_range=(1e-6, 4.0), x_text="{:g} %".format, note=NOTE, limit=1.0
    )


def test_curves_survive_zero_infinite_and_missing_values() -> None:
    pixels = pixels_of(some_curves())
    assert n_of_colour(pixels, BLUE) > 500
    assert n_of_colour(pixels, RED) == 0


def test_bars_beyond_what_is_allowed_are_red() -> None:
    few = pixels_of(some_bars((Bar(0.5), Bar(0.0, "exact")), (None, Bar(0.1))))
    many = pixels_of(some_bars((Bar(0.5), Bar(0.0, "exact")), (Bar(math.inf), Bar(1.1))))
    assert n_of_colour(few, BLUE) > 1000
    assert n_of_colour(few, ORANGE) > 1000
    assert n_of_colour(many, RED) > n_of_colour(few, RED) + 1000


def test_a_longer_bar_has_more_pixels_and_whiskers_are_black() -> None:
    short = pixels_of(some_bars((Bar(1e-4, "0.0001"), None)))
    long = pixels_of(some_bars((Bar(0.1, "0.1", (0.05, 0.2)), None)))
    assert n_of_colour(long, BLUE) > n_of_colour(short, BLUE) + 1000


def test_no_bars_are_a_picture_too() -> None:
    assert pixels_of(some_bars()).shape[0] > 50


@pytest.mark.parametrize("file", ["$a_{b", "模型.gguf", "a\nb", "_x"])
def test_names_of_files_are_drawn_as_they_are(file: str) -> None:
    pixels_of(some_curves(file))


def test_pictures_are_the_same_whatever_matplotlib_is_set_to() -> None:
    before = some_curves()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 30}):
        assert some_curves() == before
        assert matplotlib.rcParams["font.size"] == 20
    assert before is not None
    assert len(before) < 30_000


def test_without_matplotlib_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert some_curves() is None
    assert some_bars((Bar(0.5), Bar(0.5))) is None
    assert "llorch[plots]" in plots.HOW_TO_GET


def test_speeds_have_a_line_and_a_spread_for_each_series() -> None:
    series = {"tg128": [(4.0, 30.0, 1.0), (1.0, 10.0, 0.0), (2.0, 19.0, 4.0)], "pp512": [(1.0, 50.0, 0.0)]}
    panel = Panel("threads", series, {"tg128": [(1.0, 20.0), (4.0, 40.0)]})
    pixels = pixels_of(speeds("Speed", "tokens per second", [panel], NOTE))
    assert n_of_colour(pixels, BLUE) > 500
    assert n_of_colour(pixels, ORANGE) > 30


def test_a_limit_of_one_point_is_a_line_that_can_be_seen() -> None:
    series = {"tg128": [(2.0, 30.0, 0.0)]}
    with_limit = speeds(
        "Speed", "tokens per second", [Panel("threads", series, {"tg128": [(2.0, 40.0)]})], NOTE
    )
    without = speeds("Speed", "tokens per second", [Panel("threads", series, {})], NOTE)
    assert n_of_colour(pixels_of(with_limit), BLUE) > n_of_colour(pixels_of(without), BLUE) + 300


def test_speeds_close_to_each_other_have_plain_numbers_at_their_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw_text = RendererAgg.draw_text

    def note_text(self: Any, gc: Any, x: float, y: float, text: str, *more: Any, **named: Any) -> None:
        drawn.append(text)
        draw_text(self, gc, x, y, text, *more, **named)

    monkeypatch.setattr(RendererAgg, "draw_text", note_text)
    panel = Panel("threads", {"pp512": [(1.0, 985.0, 0.0), (2.0, 2109.0, 0.0)]}, {})
    assert speeds("Speed", "tokens per second", [panel], NOTE) is not None
    assert {"1,000", "2000"} <= set(drawn)
    assert not [text for text in drawn if "$" in text]
