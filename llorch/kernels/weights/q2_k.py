"""Q2_K weights: 256 integers of two bits; 16 columns share a scale and a minimum of four bits each."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_uint8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles import file_superblocks
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.quant import types


@inlined
def _integer(block, i):
    return int32(as_uint8(block + 16)[i // 128 * 32 + i % 32]) >> (i % 128 // 32 * 2) & 3


@inlined
def _scale(block, j):
    return int32(as_uint8(block)[j]) & 15


@inlined
def _minimum(block, j):
    return int32(as_uint8(block)[j]) >> 4


Q2_K = make_format(
    Blocks(types.Q2_K, _integer, 80, 82, _scale, _minimum, scale_columns=16),
    TileScheme("q2_k", (2,), 3, 256, 16, minimums="nibbles"),
    file_superblocks.Q2_K,
    minimum_lanes=8,
)
