"""RMSNorm, bit for bit as llama.cpp computes it: ``out[r] = x[r] / rms(x[r]) * weight``, in every form of `out`."""

from __future__ import annotations

import numpy as np
from numpy import float32, float64, sqrt
from numpy.typing import NDArray

from llorch.kernels.activations.fill import fill_forms
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.emit.scalars import as_float32, float32_of_bits
from llorch.kernels.emit.vectors import sum_of_squares
from llorch.kernels.jit import kernel, operation
from llorch.kernels.program import Program, float_bits, operands

X, X_STRIDE, WEIGHT, N, EPS, OUT, OUT_STRIDE, FORMS = operands(8)


def norm(
    program: Program,
    layer: int,
    x: Rows,
    weight: NDArray[np.float32],
    eps: float,
    out: Activation,
    outputs: bool = False,
) -> None:
    """Write ``out = rms_norm(x) * weight``.

    Args:
        program: gets the instruction.
        layer: its layer.
        x: float32 (n_rows, n).
        weight: float32 (n,).
        eps: added to the mean square.
        out: float32 (n_rows, n) and its forms.
        outputs: whether rows are the step's outputs.
    """
    values = {
        X: x.address,
        X_STRIDE: x.stride,
        WEIGHT: int(weight.ctypes.data),
        N: x.n,
        EPS: float_bits(eps),
        OUT: out.rows.address,
        OUT_STRIDE: out.rows.stride,
        FORMS: out.tables,
    }
    program.add(run_norm, "norm", layer, values, keep=(x, weight, out), fills=out, outputs=outputs)


@operation("RMSNorm", name="norm")
def run_norm(o, s, n_rows, ith, nth, counter, scratch):
    """x: float32 (n_rows, n). weight: float32 (n,). out: float32 (n_rows, n) and its forms."""
    eps = float32_of_bits(o[EPS])
    for row in range(ith, n_rows, nth):
        at = o[OUT] + row * o[OUT_STRIDE]
        rms_norm_row(o[X] + row * o[X_STRIDE], o[WEIGHT], o[N], eps, at)
        fill_forms(o[FORMS], at, row, 0, o[N])


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
    x, weight, out = as_float32(x_address), as_float32(weight_address), as_float32(out_address)
    mean = float32(sum_of_squares(x_address, n) / float64(n))
    scale = float32(1.0) / sqrt(float32(mean + eps))
    for i in range(n):
        out[i] = (x[i] * scale) * weight[i]
