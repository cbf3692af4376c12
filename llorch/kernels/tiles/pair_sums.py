"""Sums over sub-blocks of integer scales, or minimums, times the sums of activations, two sub-blocks at a time."""

from __future__ import annotations

from typing import Any

from llorch.kernels.emit.values import I8, I32, Int, constant, load, vector
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.integers import LANES, multiply_pair
from llorch.kernels.tiles.layout import TileScheme


def pair_sums(
    builder: Any, scheme: TileScheme, scales_at: list[Int], x_sums: list[Int], block: Int
) -> list[Any]:
    """int32 sums over the sub-blocks of minimums (or else scales) times the sums of activations, token-major.

    Args:
        builder: of the function under construction.
        scheme: of the weights.
        scales_at: addresses of the block's scales, by vector of rows.
        x_sums: addresses of the tokens' int16 sums, of their first block.
        block: its number.
    """
    n = len(scales_at)
    start = scheme.minimums_at if scheme.minimums == "bytes" else 0
    x_at = [x + block * (scheme.sub_blocks * 2) for x in x_sums]
    totals = [constant(I32, LANES, 0)] * (len(x_at) * n)
    for first in range(0, scheme.sub_blocks, 2):
        for v, scales in enumerate(scales_at):
            pair = [load(vector(I8, LANES), scales, start + (first + i) * TILE_ROWS) for i in range(2)]
            if scheme.minimums == "nibbles":
                pair = [builder.lshr(scale, constant(I8, LANES, 4)) for scale in pair]
            at = [x + first * 2 for x in x_at]
            signed = scheme.signed_scales and not scheme.minimums
            totals[v::n] = multiply_pair(builder, totals[v::n], pair[0], pair[1], signed, at)
    return totals
