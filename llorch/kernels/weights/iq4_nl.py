"""IQ4_NL weights: 32 nibbles that choose one of 16 values, times a float16 scale."""

from __future__ import annotations

from numpy import int8, int32, uint64

from llorch.kernels.emit.scalars import as_uint8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles.file_blocks import legacy_block
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.quant import types
from llorch.quant.codecs.iq4 import CODEBOOK

_VALUES = sum((int(value) & 255) << 8 * i for i, value in enumerate(CODEBOOK))
_LOW, _HIGH = uint64(_VALUES & 0xFFFFFFFFFFFFFFFF), uint64(_VALUES >> 64)


@inlined
def value_of_nibble(nibble):
    """The value that a nibble chooses, as int32."""
    return int32(int8((_HIGH if nibble & 8 else _LOW) >> uint64((nibble & 7) * 8)))


@inlined
def _integer(block, i):
    return value_of_nibble(int32(as_uint8(block + 2)[i % 16]) >> (i // 16 * 4) & 15)


IQ4_NL = make_format(
    Blocks(types.IQ4_NL, _integer),
    TileScheme("iq4_nl", (4,), 127, signed=True, codebook=tuple(CODEBOOK.tolist())),
    legacy_block(2, bits=4),
    n_registers=2,
)
