"""Q4_0 weights: 32 nibbles less 8, times a float16 scale."""

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
    return (int32(as_uint8(block + 2)[i % 16]) >> (i // 16 * 4) & 15) - 8


Q4_0 = make_format(
    Blocks(types.Q4_0, _integer), TileScheme("q4_0", (4,), 15, offset=8), legacy_block(2, bits=4)
)
