"""Q3_K weights: 256 integers of three bits less 4, third bits apart; 16 columns share a scale of six bits less 32."""

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
    low = int32(as_uint8(block + 32)[i // 128 * 32 + i % 32]) >> (i % 128 // 32 * 2) & 3
    third = int32(as_uint8(block)[i % 32]) >> (i // 32) & 1
    return (low | third << 2) - 4


@inlined
def _scale(block, j):
    scales = as_uint8(block + 96)
    low, high = int32(scales[j % 8]) >> (j // 8 * 4) & 15, int32(scales[8 + j % 4]) >> (j // 4 * 2) & 3
    return (low | high << 4) - 32


Q3_K = make_format(
    Blocks(types.Q3_K, _integer, 108, scale=_scale, scale_columns=16),
    TileScheme("q3_k", (2, 1), 7, 256, 16, offset=4, signed_scales=True),
    file_superblocks.Q3_K,
)
