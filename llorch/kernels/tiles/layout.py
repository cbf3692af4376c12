"""What a tile of Q8_0 weights is: 16 rows re-ordered so that one 64-byte vector holds 4 columns of all of them.

quants  [n_blocks][8 quads][16 rows][4]  uint8 (biased by 128) or int8, see `paths.KernelPath.tile_bias`
scales  [n_blocks][16 rows]              float16
"""

from __future__ import annotations

from llorch.kernels.layout import TILE_ROWS, round_up

BLOCK = 32
"""Columns of a block."""

FILE_BLOCK_BYTES = 2 + BLOCK
"""A block in the file: float16 scale, then int8."""

QUADS = BLOCK // 4
QUANT_BYTES = TILE_ROWS * BLOCK
SCALE_BYTES = TILE_ROWS * 2
"""Bytes of one block of a tile."""


def tile_bytes(n_in: int) -> int:
    """Bytes of one tile of `n_in` columns, a multiple of 64 so that every vector load is aligned."""
    return round_up(n_in // BLOCK * (QUANT_BYTES + SCALE_BYTES), 64)
