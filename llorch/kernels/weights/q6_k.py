"""Q6_K weights: 256 integers of six bits less 32, two bits apart; 16 columns share an int8 scale."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_int8, as_uint8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles import file_superblocks
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.quant import types


@inlined
def _integer(block, i):
    low = int32(as_uint8(block)[i // 128 * 64 + i % 64]) >> (i % 128 // 64 * 4) & 15
    high = int32(as_uint8(block + 128)[i // 128 * 32 + i % 32]) >> (i % 128 // 32 * 2) & 3
    return low | high << 4


@inlined
def _scale(block, j):
    return int32(as_int8(block + 192)[j])


Q6_K = make_format(
    Blocks(types.Q6_K, _integer, 208, scale=_scale, scale_columns=16, offset=32),
    TileScheme("q6_k", (4, 2), 63, 256, 16, offset=32, signed_scales=True),
    file_superblocks.Q6_K,
)
