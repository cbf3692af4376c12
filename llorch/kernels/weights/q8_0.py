"""Q8_0 weights."""

from __future__ import annotations

from numpy import float32

from llorch.kernels.activations.q8_0 import Q8_0 as Q8_0_ACTIVATION
from llorch.kernels.activations.q8_0 import SCALES, SUMS
from llorch.kernels.emit.scalars import as_float32, as_int8, as_uint16, half_to_float32
from llorch.kernels.jit import kernel, unit
from llorch.kernels.ops.embed import make_embed
from llorch.kernels.tiles.file_blocks import legacy_block
from llorch.kernels.tiles.gather import EXPONENT
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.q8_0_llama_cpp import product_q8_0_llama_cpp
from llorch.kernels.weights.tiled import make_tiled
from llorch.quant import types
from llorch.quant.codecs.q8_0 import BLOCK_BYTES, BLOCK_SIZE


@kernel
def _embed_row(source, n, out):
    """A row of `n` Q8_0 values at `source` as float32 at `out`."""
    x = as_float32(out)
    for block in range(n // BLOCK_SIZE):
        at = source + block * BLOCK_BYTES
        d = half_to_float32(as_uint16(at)[0])
        q = as_int8(at + 2)
        for i in range(BLOCK_SIZE):
            x[block * BLOCK_SIZE + i] = d * float32(q[i])


@unit("check of Q8_0 scales", 2)
def scan_q8_0(source, n_blocks):
    """Non-zero if any of `n_blocks` Q8_0 blocks at `source` has a NaN or infinite scale."""
    bad = 0
    for block in range(n_blocks):
        scale = as_uint16(source + block * BLOCK_BYTES)[0]
        bad |= int((scale & EXPONENT) == EXPONENT)
    return bad


_TILED = make_tiled(
    "Q8_0",
    TileScheme("q8_0", (8,), 128, signed=True),
    legacy_block(2, bits=8),
    (SCALES, SUMS),
)

Q8_0 = WeightFormat(
    quant=types.Q8_0,
    activation=Q8_0_ACTIVATION,
    embed=make_embed("Q8_0", _embed_row),
    scan=scan_q8_0,
    fast_product=_TILED.product,
    llama_cpp_product=product_q8_0_llama_cpp,
    tiling=_TILED.tiling,
    scale_name="the scale of block",
)
