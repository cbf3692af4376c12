"""The formats whose weights are integers in blocks: a row of the table says all that is special to one.

Source: the block structures of ggml-common.h; the order of the twins' additions is that of ggml's AVX2 products.
"""

from __future__ import annotations

from llorch.kernels.tiles import file_superblocks as super_blocks
from llorch.kernels.tiles.file_blocks import legacy_block
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import make_format
from llorch.quant import types
from llorch.quant.codecs.iq4 import CODEBOOK

_VALUES = tuple(CODEBOOK.tolist())

Q4_0 = make_format(types.Q4_0, TileScheme("q4_0", (4,), 15, offset=8), legacy_block(2, bits=4))
Q4_1 = make_format(types.Q4_1, TileScheme("q4_1", (4,), 15, minimums="float"), legacy_block(4, bits=4))
Q5_0 = make_format(types.Q5_0, TileScheme("q5_0", (4, 1), 31, offset=16), legacy_block(6, bits=5))
Q5_1 = make_format(types.Q5_1, TileScheme("q5_1", (4, 1), 31, minimums="float"), legacy_block(8, bits=5))
Q8_0 = make_format(types.Q8_0, TileScheme("q8_0", (8,), 128, signed=True), legacy_block(2, bits=8))
IQ4_NL = make_format(
    types.IQ4_NL,
    TileScheme("iq4_nl", (4,), 127, signed=True, codebook=_VALUES),
    legacy_block(2, bits=4),
    n_registers=2,
)
Q2_K = make_format(
    types.Q2_K, TileScheme("q2_k", (2,), 3, 256, 16, minimums="nibbles"), super_blocks.Q2_K, minimum_lanes=8
)
Q3_K = make_format(
    types.Q3_K, TileScheme("q3_k", (2, 1), 7, 256, 16, offset=4, signed_scales=True), super_blocks.Q3_K
)
Q4_K = make_format(
    types.Q4_K, TileScheme("q4_k", (4,), 15, 256, minimums="bytes"), super_blocks.Q4_K, minimum_lanes=4
)
Q5_K = make_format(
    types.Q5_K, TileScheme("q5_k", (4, 1), 31, 256, minimums="bytes"), super_blocks.Q5_K, minimum_lanes=1
)
Q6_K = make_format(
    types.Q6_K,
    TileScheme("q6_k", (4, 2), 63, 256, 16, offset=32, signed_scales=True),
    super_blocks.Q6_K,
    twin_offset=32,
)
IQ4_XS = make_format(
    types.IQ4_XS,
    TileScheme("iq4_xs", (4,), 127, 256, signed=True, signed_scales=True, codebook=_VALUES),
    super_blocks.IQ4_XS,
)
