"""Q5_K weights: 256 integers of five bits, the fifth bits apart; scales and minima as in Q4_K."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_uint8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles import file_superblocks
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.kernels.weights.q4_k import minimum_of_6_bits, scale_of_6_bits
from llorch.quant import types


@inlined
def _integer(block, i):
    low = int32(as_uint8(block + 48)[i // 64 * 32 + i % 32]) >> (i % 64 // 32 * 4) & 15
    fifth = int32(as_uint8(block + 16)[i % 32]) >> (i // 32) & 1
    return low | fifth << 4


Q5_K = make_format(
    Blocks(types.Q5_K, _integer, 0, 2, scale_of_6_bits, minimum_of_6_bits),
    TileScheme("q5_k", (4, 1), 31, 256, minimums="bytes"),
    file_superblocks.Q5_K,
    minimum_lanes=1,
)
