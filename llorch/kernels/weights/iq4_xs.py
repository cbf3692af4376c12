"""IQ4_XS weights: 256 nibbles that choose one of 16 values; 32 columns share a scale of six bits less 32."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_uint8, as_uint16
from llorch.kernels.jit import inlined
from llorch.kernels.tiles import file_superblocks
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.kernels.weights.iq4_nl import value_of_nibble
from llorch.quant import types
from llorch.quant.codecs.iq4 import CODEBOOK


@inlined
def _integer(block, i):
    return value_of_nibble(int32(as_uint8(block + 8)[i // 32 * 16 + i % 16]) >> (i % 32 // 16 * 4) & 15)


@inlined
def _scale(block, j):
    low, high = (
        int32(as_uint8(block + 4)[j // 2]) >> (j % 2 * 4) & 15,
        int32(as_uint16(block + 2)[0]) >> (j * 2) & 3,
    )
    return (low | high << 4) - 32


IQ4_XS = make_format(
    Blocks(types.IQ4_XS, _integer, scale=_scale),
    TileScheme("iq4_xs", (4,), 127, 256, signed=True, signed_scales=True, codebook=tuple(CODEBOOK.tolist())),
    file_superblocks.IQ4_XS,
)
