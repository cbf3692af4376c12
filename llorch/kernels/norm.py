"""RMSNorm, bit for bit as llama.cpp computes it."""

from __future__ import annotations

from numba import carray
from numpy import float32, float64, sqrt

from llorch.kernels.intrinsics import as_float32
from llorch.kernels.jit import kernel
from llorch.kernels.vectors import sum_of_squares


@kernel
def rms_norm_row(x_address, weight_address, n, eps, out_address):
    """``out = x / sqrt(mean(x^2) + eps) * weight`` for one row.

    float32 squares are summed in float64 and the rest is float32, as in llama.cpp; the eight partial sums
    below differ from its one running sum by 1e-16 relative, far below the float32 the mean is rounded to.

    Args:
        x_address, weight_address, out_address: float32 (n,); `out` may be `x`.
        n: row length.
        eps: float32.
    """
    x = carray(as_float32(x_address), n)
    weight = carray(as_float32(weight_address), n)
    out = carray(as_float32(out_address), n)
    total = sum_of_squares(x_address, n)
    mean = float32(total / float64(n))
    scale = float32(1.0) / sqrt(float32(mean + eps))
    for i in range(n):
        out[i] = (x[i] * scale) * weight[i]
