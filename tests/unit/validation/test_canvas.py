"""Pictures are valid PNG files that show what they should."""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

from llorch.validation.canvas import BLACK, RED, SERIES, Canvas
from llorch.validation.plots import bars, curves
from llorch.validation.stroke_font import BASELINE, HEIGHT, WIDTH, strokes, text_width


def decode(png: bytes) -> tuple[NDArray[np.uint8], dict[bytes, bytes]]:
    """Pixels (height, width, 3) and the chunks of a PNG file without filters, every checksum held."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(png):
        n = int.from_bytes(png[at : at + 4], "big")
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + n]
        assert int.from_bytes(png[at + 8 + n : at + 12 + n], "big") == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + n
    width, height = (int.from_bytes(chunks[b"IHDR"][i : i + 4], "big") for i in (0, 4))
    raw = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not raw[:, 0].any()
    return raw[:, 1:].reshape(height, width, 3), chunks


def has_colour(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((pixels == np.array(colour, np.uint8)).all(-1).any())


def test_lines_dots_boxes_and_words_are_drawn_where_they_belong() -> None:
    canvas = Canvas(60, 40)
    canvas.line([(10.5, 5), (10.5, 35)], RED, 3)
    canvas.line([(30, 20)], BLACK, 5)
    canvas.box(40, 10, 10, 10, SERIES[0])
    pixels, chunks = decode(canvas.png())
    assert tuple(pixels[20, 10]) == RED
    assert tuple(pixels[20, 30]) == BLACK
    assert tuple(pixels[15, 45]) == SERIES[0]
    assert tuple(pixels[2, 55]) == (255, 255, 255)
    assert b"generated" in chunks[b"tEXt"]


def test_what_lies_outside_is_cut_off() -> None:
    canvas = Canvas(20, 20)
    canvas.line([(-50, -50), (-10, -10)], RED)
    canvas.text((-5, 300), "out", RED)
    assert (decode(canvas.png())[0] == 255).all()


def test_every_printable_character_has_strokes_inside_its_cell() -> None:
    for code in range(33, 127):
        lines = strokes(chr(code))
        assert lines
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in lines for x, y in line)
    assert strokes(" ") == []
    assert text_width("", 12) == 0
    assert text_width("ab", 12) > text_width("a", 12) == WIDTH * 12 / (HEIGHT - BASELINE)


def test_curves_survive_zero_infinite_and_missing_values() -> None:
    series = {"native": [(0.0, 0.0), (1.0, math.inf), (2.0, 1e-9)], "f32": []}
    pixels, _ = decode(curves("t", "x", "y", series, {"native": 1e-4}, 1e-16))
    assert has_colour(pixels, SERIES[0])
    assert not has_colour(pixels, RED)


def test_bars_beyond_what_is_allowed_are_red() -> None:
    rows = [("a", [0.0, 0.5]), ("b", [math.nan, math.inf])]
    pixels, _ = decode(bars("t", "x", rows, ["native", "f32"]))
    assert has_colour(pixels, RED)
    assert has_colour(pixels, SERIES[1])
    no_bars = decode(bars("t", "x", [], ["native"]))[0]
    assert no_bars.shape[1] == pixels.shape[1]
