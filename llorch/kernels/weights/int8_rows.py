"""int8 weights with a factor for each row, times activations with a factor for each token (`w8a8`).

The sum of a row's products is an exact int32, so that its order means nothing, and llama.cpp's order is any. Both
factors are multiplied with once, at the end: ``float32(sum) * row scale * token scale``.
"""

from __future__ import annotations

from numpy import float32

from llorch.kernels import step as st
from llorch.kernels.activations.int8_rows import INT8_ROWS, QUANTS, SCALES, SUMS
from llorch.kernels.emit.scalars import as_float32, as_int8, as_int32
from llorch.kernels.jit import operation
from llorch.kernels.ops.embed import OUT, OUT_STRIDE, ROW_BYTES, ROW_SCALES, TABLE, N
from llorch.kernels.tiles.file_blocks import PLAIN_BLOCK
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.floats import F32_WEIGHTS
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.tiled import make_tiled
from llorch.quant import types

_TILING, _PRODUCT = make_tiled(
    "I8", TileScheme("i8", (8,), 128, signed=True, is_plain=True), PLAIN_BLOCK, (QUANTS, SCALES, SUMS)
)


@operation("I8 embedding", name="embed_i8")
def _embed(o, s, n_rows, ith, nth, counter, scratch):
    """table: int8 (n_vocab, n) and its factors. token_ids: int32 (n_rows,). out: float32 (n_rows, n)."""
    token_ids = as_int32(s[st.TOKEN_IDS])
    for row in range(ith, n_rows, nth):
        token_id = token_ids[row]
        integers = as_int8(o[TABLE] + token_id * o[ROW_BYTES])
        factor, out = as_float32(o[ROW_SCALES])[token_id], as_float32(o[OUT] + row * o[OUT_STRIDE])
        for i in range(o[N]):
            out[i] = float32(integers[i]) * factor


I8_WEIGHTS = WeightFormat(
    quant=types.I8,
    activation=INT8_ROWS,
    embed=_embed,
    scan=F32_WEIGHTS.scan,
    fast_product=_PRODUCT,
    llama_cpp_product=_PRODUCT,
    tiling=_TILING,
    scale_name="the scale of row",
)
