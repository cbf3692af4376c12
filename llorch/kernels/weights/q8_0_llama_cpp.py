"""The slow twin of the Q8_0 product: every float added in llama.cpp's order (`llama_cpp_lanes`)."""

from __future__ import annotations

from numpy import float32, int32

from llorch.kernels.activations.q8_0 import QUANT_STRIDE, QUANTS, SCALE_STRIDE, SCALES
from llorch.kernels.emit.scalars import (
    as_float32,
    as_int8,
    as_int64,
    as_uint16,
    atomic_add,
    fused_multiply_add,
    half_to_float32,
)
from llorch.kernels.jit import kernel, operation
from llorch.kernels.llama_cpp_lanes import add_lanes_in_halves, put
from llorch.kernels.ops.matmul import ACCUMULATE, N_IN, N_OUT, WEIGHTS, X, output_of
from llorch.quant.codecs.q8_0 import BLOCK_BYTES, BLOCK_SIZE


@kernel
def _dot(w, q, d, n_blocks, lanes):
    """One row of weights with one of activations: a lane adds four products of each block, blocks in order."""
    scales = as_float32(d)
    for lane in range(8):
        lanes[lane] = float32(0)
    for block in range(n_blocks):
        at = w + block * BLOCK_BYTES
        scale = half_to_float32(as_uint16(at)[0]) * scales[block]
        weights, activations = as_int8(at + 2), as_int8(q + block * BLOCK_SIZE)
        for lane in range(8):
            total = int32(0)
            for i in range(lane * 4, lane * 4 + 4):
                total += int32(weights[i]) * int32(activations[i])
            lanes[lane] = fused_multiply_add(scale, float32(total), lanes[lane])
    return add_lanes_in_halves(lanes)


@operation("Q8_0 products in llama.cpp's order")
def product_q8_0_llama_cpp(o, s, n_rows, ith, nth, counter, scratch):
    """As `weights.q8_0.product_q8_0`, for rows as in the file."""
    x = as_int64(o[X])
    out, out_stride = output_of(o, s)
    n_blocks = o[N_IN] // BLOCK_SIZE
    lanes = as_float32(scratch)
    row = atomic_add(counter, 1)
    while row < o[N_OUT]:
        w = o[WEIGHTS] + row * n_blocks * BLOCK_BYTES
        for token in range(n_rows):
            q, d = x[QUANTS] + token * x[QUANT_STRIDE], x[SCALES] + token * x[SCALE_STRIDE]
            put(_dot(w, q, d, n_blocks, lanes), out + token * out_stride + row * 4, o[ACCUMULATE])
        row = atomic_add(counter, 1)
