"""Q5_0 weights: 32 integers of five bits less 16, the fifth bits apart, times a float16 scale."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_uint8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles.file_blocks import legacy_block
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.quant import types


@inlined
def _integer(block, i):
    low = int32(as_uint8(block + 6)[i % 16]) >> (i // 16 * 4) & 15
    fifth = int32(as_uint8(block + 2)[i // 8]) >> (i % 8) & 1
    return (low | fifth << 4) - 16


Q5_0 = make_format(
    Blocks(types.Q5_0, _integer), TileScheme("q5_0", (4, 1), 31, offset=16), legacy_block(6, bits=5)
)
