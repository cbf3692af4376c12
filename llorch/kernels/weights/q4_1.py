"""Q4_1 weights: 32 nibbles, times a float16 scale, plus a float16 minimum."""

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
    return int32(as_uint8(block + 4)[i % 16]) >> (i // 16 * 4) & 15


Q4_1 = make_format(
    Blocks(types.Q4_1, _integer, m_at=2),
    TileScheme("q4_1", (4,), 15, minimums="float"),
    legacy_block(4, bits=4),
)
