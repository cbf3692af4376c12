"""Q5_1 weights: 32 integers of five bits, the fifth bits apart, times a float16 scale, plus a float16 minimum."""

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
    low = int32(as_uint8(block + 8)[i % 16]) >> (i // 16 * 4) & 15
    fifth = int32(as_uint8(block + 4)[i // 8]) >> (i % 8) & 1
    return low | fifth << 4


Q5_1 = make_format(
    Blocks(types.Q5_1, _integer, m_at=2),
    TileScheme("q5_1", (4, 1), 31, minimums="float"),
    legacy_block(8, bits=5),
)
