"""Q8_0 weights: 32 int8, times a float16 scale."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_int8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles.file_blocks import legacy_block
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.quant import types


@inlined
def _integer(block, i):
    return int32(as_int8(block + 2)[i])


Q8_0 = make_format(
    Blocks(types.Q8_0, _integer), TileScheme("q8_0", (8,), 128, signed=True), legacy_block(2, bits=8)
)
