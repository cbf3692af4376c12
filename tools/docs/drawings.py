#!/usr/bin/env python3
"""Draw the pictures of docs/how-it-works.md: `python -m tools.docs.drawings` writes them into docs/pictures.

Sizes come from the code (rows of a tile, positions of a part), so that a picture cannot say something else; a test
compares the files with what this makes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE, TILE_ROWS
from tools.docs.svg import Drawing

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
CELL = 16


def tile() -> Drawing:
    """How rows of a matrix become vectors of a tile, and what one instruction does with such a vector."""
    d = Drawing(860, 400, "Four columns of sixteen rows become one vector of 64 bytes")
    d.text(20, 28, f"in the file: {TILE_ROWS} rows, each contiguous")
    for row in range(TILE_ROWS):
        for column in range(12):
            colour = ("blue", "orange", "green")[column // 4]
            d.box(20 + column * CELL, 40 + row * CELL, CELL, CELL, colour)
    d.text(218, 40 + TILE_ROWS * CELL / 2, "…")
    d.arrow(236, 168, 300, 168)
    d.text(310, 28, f"in the tile: a vector holds 4 columns of all {TILE_ROWS} rows (64 bytes)")
    for i, colour in enumerate(("blue", "orange", "green")):
        y = 44 + i * 52
        for row in range(TILE_ROWS):
            d.box(310 + row * 33, y, 33, 26, colour, f"r{row}", 10)
        d.text(310, y + 41, f"columns {4 * i} to {4 * i + 3}", size=11)
    y = 220
    d.text(310, y, "one activation's 4 bytes, repeated for every row")
    for row in range(TILE_ROWS):
        d.box(310 + row * 33, y + 10, 33, 26, "purple", "x0…3", 10)
    d.text(310, y + 66, f"vpdpbusd: {TILE_ROWS} sums of 4 products each, added to {TILE_ROWS} int32")
    for row in range(TILE_ROWS):
        d.box(310 + row * 33, y + 76, 33, 26, "grey", f"y{row}", 10)
    d.text(
        20, 380, "No sum runs across a vector: a row keeps its own lane from the first column to the last."
    )
    return d


def shape() -> Drawing:
    """The micro-kernel's shape: one tile times eight tokens stays in registers while the next tile is fetched."""
    d = Drawing(860, 290, "One tile times eight tokens: eight accumulators stay in registers")
    d.text(20, 28, "for every 4 columns: load 1 vector of weights, repeat 8 activations, 8 dot products")
    d.box(20, 80, 120, 56, "blue", "tile: 16 rows")
    d.arrow(142, 108, 174, 108)
    for token in range(8):
        x = 180 + token * 84
        d.box(x, 44, 78, 24, "purple", f"token {token}")
        d.box(x, 80, 78, 56, "grey", "16 sums")
    for place in range(4):
        d.box(20 + place * 30, 160, 26, 40, "orange", "")
    d.text(150, 185, "meanwhile, asked for: as much of the next tile, at four places, for the second cache")
    d.text(
        20,
        240,
        "A vector of weights is read once for eight tokens: eight sequences cost about as much as one,",
    )
    d.text(
        20, 260, "which waits for memory; reading a prompt, eight tokens after eight, is bound by arithmetic."
    )
    return d


def team() -> Drawing:
    """Two threads walk the same instructions and meet at barriers."""
    d = Drawing(
        860, 250, "Two threads walk the same list of instructions and wait for each other at barriers"
    )
    steps = [
        *(("norm", "green", 62, 50), ("q k v", "blue", 150, 170), ("rope, store", "orange", 66, 60)),
        *(("attend", "purple", 120, 132), ("output", "blue", 96, 90), ("norm", "green", 50, 56)),
        ("gate, up …", "blue", 140, 140),
    ]
    for thread in range(2):
        d.text(20, 72 + thread * 70, f"thread {thread}")
    x = 90.0
    for name, colour, *widths in steps:
        longest = max(widths)
        for thread, width in enumerate(widths):
            y = 50 + thread * 70
            d.box(x, y, width, 36, colour, name, 11)
            if width < longest:
                d.box(x + width, y + 9, longest - width, 18, "grey")
        x += longest
        d.line(x, 38, x, 166)
        x += 4
    d.text(
        20,
        200,
        "Dashed: barriers, where the next instruction needs the work of all. Grey: waiting for the other thread.",
    )
    d.text(
        20,
        222,
        "Inside an instruction threads claim outputs from a counter: a disturbed thread simply does less of it.",
    )
    return d


def parts() -> Drawing:
    """Attention over a long context: parts at fixed positions, added in a fixed order."""
    n = 700
    d = Drawing(860, 320, "Attention over 700 positions in three parts of 256 that are added in order")
    d.text(
        20,
        28,
        f"the context: {n} positions in blocks of {KV_BLOCK_SIZE}, the softmax begins anew every {ATTENTION_PART}",
    )
    scale = 800 / n
    for i, begin in enumerate(range(0, n, ATTENTION_PART)):
        end = min(begin + ATTENTION_PART, n)
        colour = ("blue", "orange", "green")[i]
        for block in range(begin, end, KV_BLOCK_SIZE):
            width = (min(block + KV_BLOCK_SIZE, end) - block) * scale
            d.box(20 + block * scale, 42, width, 32, colour)
        middle = 20 + (begin + end) / 2 * scale
        d.text(20 + begin * scale, 90, f"{begin}", size=11)
        d.arrow(middle, 80, middle, 118)
        d.box(middle - 95, 122, 190, 60, colour)
        d.text(middle, 146, "highest score, sum of weights,", size=11, anchor="middle")
        d.text(middle, 164, "sum of weighted values", size=11, anchor="middle")
        d.arrow(middle, 184, 420 + (i - 1) * 60, 226)
    d.box(300, 230, 240, 36, "grey", "added in order of position")
    d.text(
        20,
        300,
        "Whoever computes a part, its place and its turn are the same: so are the bits, with any number of threads.",
    )
    return d


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    f"{draw.__name__}.svg": draw for draw in (tile, shape, team, parts)
}
"""By file name."""


if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (PICTURES / name).write_text(str(draw()), "utf-8")
