"""A small picture: smooth lines, boxes and words on white, written as PNG. NumPy and zlib, nothing else."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.validation.bundle import GENERATED_BY
from llorch.validation.stroke_font import ADVANCE, BASELINE, HEIGHT, strokes, text_width

Colour = tuple[int, int, int]
Spot = tuple[float, float]
"""x to the right and y downwards, in pixels."""

BLACK: Colour = (34, 34, 34)
GREY: Colour = (120, 120, 120)
PALE: Colour = (226, 226, 226)
RED: Colour = (200, 40, 40)
SERIES: tuple[Colour, ...] = ((31, 105, 170), (217, 120, 20), (60, 140, 70), (130, 80, 160))
"""Colours that tell series apart."""


class Canvas:
    """A white picture to draw on."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._pixels = np.full((height, width, 3), 255.0)

    def line(self, points: Sequence[Spot], colour: Colour, width: float = 1.5, dash: float = 0.0) -> None:
        """Straight lines from point to point, `dash` pixels long with gaps as long; one point is a dot."""
        if len(points) == 1:
            self._segment(points[0], points[0], colour, width)
        for start, end in itertools.pairwise(points):
            if dash <= 0:
                self._segment(start, end, colour, width)
                continue
            a, b = np.asarray(start, float), np.asarray(end, float)
            n = max(1, int(np.hypot(*(b - a)) / dash))
            for i in range(0, n, 2):
                first, last = a + (b - a) * i / n, a + (b - a) * min(i + 1, n) / n
                self._segment((first[0], first[1]), (last[0], last[1]), colour, width)

    def _segment(self, start: Spot, end: Spot, colour: Colour, width: float) -> None:
        reach = width / 2 + 1
        x0, x1 = sorted((start[0], end[0]))
        y0, y1 = sorted((start[1], end[1]))
        left, right = max(0, int(x0 - reach)), min(self.width, int(x1 + reach) + 2)
        top, bottom = max(0, int(y0 - reach)), min(self.height, int(y1 + reach) + 2)
        if left >= right or top >= bottom:
            return
        y, x = np.mgrid[top:bottom, left:right] + 0.5
        dx, dy = end[0] - start[0], end[1] - start[1]
        along = ((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-9)
        along = np.clip(along, 0.0, 1.0)
        distance = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
        self._blend(top, left, np.clip(width / 2 + 0.5 - distance, 0.0, 1.0), colour)

    def box(self, left: float, top: float, width: float, height: float, colour: Colour) -> None:
        """A filled rectangle with soft edges."""
        x, y = np.arange(self.width) + 0.5, np.arange(self.height) + 0.5
        across = np.clip(np.minimum(x - left, left + width - x) + 0.5, 0.0, 1.0)
        down = np.clip(np.minimum(y - top, top + height - y) + 0.5, 0.0, 1.0)
        self._blend(0, 0, np.minimum(down[:, None], across[None, :]), colour)

    def text(
        self, spot: Spot, text: str, colour: Colour = BLACK, size: float = 11.0, anchor: float = 0.0
    ) -> None:
        """Words with their baseline at `spot`; `anchor` 0 begins, 0.5 centres and 1 ends there."""
        scale = size / (HEIGHT - BASELINE)
        x, y = spot[0] - anchor * text_width(text, size), spot[1]
        for character in text:
            for stroke in strokes(character):
                points = [(x + px * scale, y - (py - BASELINE) * scale) for px, py in stroke]
                self.line(points, colour, max(1.3, size / 8))
            x += ADVANCE * scale

    def _blend(self, top: int, left: int, cover: NDArray[np.float64], colour: Colour) -> None:
        part = self._pixels[top : top + cover.shape[0], left : left + cover.shape[1]]
        part += cover[:, :, None] * (np.array(colour, float) - part)

    def png(self) -> bytes:
        """The picture as a PNG file that says it is generated."""
        rows = np.rint(self._pixels).astype(np.uint8).reshape(self.height, -1)
        raw = np.hstack([np.zeros((self.height, 1), np.uint8), rows]).tobytes()
        header = self.width.to_bytes(4, "big") + self.height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
        mark = b"Comment\0" + GENERATED_BY.encode("latin-1")
        chunks = ((b"IHDR", header), (b"tEXt", mark), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + check
