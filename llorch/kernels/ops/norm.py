"""RMSNorm, bit for bit as llama.cpp computes it: ``out[r] = x[r] / rms(x[r]) * weight``, in every form of `out`."""

from __future__ import annotations

import numpy as np
from numpy import float32, float64, sqrt
from numpy.typing import NDArray

from llorch.kernels.activations.fill import fill_forms
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.emit.scalars import as_float32, float32_of_bits
from llorch.kernels.emit.vectors import sum_of_squares, two_sums_of_squares
from llorch.kernels.jit import kernel, operation
from llorch.kernels.ops.shares import share_of
from llorch.kernels.program import Program, float_bits, operands

X, X_STRIDE, WEIGHT, N, EPS, OUT, OUT_STRIDE, FORMS, KEEPS_ROWS = operands(9)


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
        out: float32 (n_rows, n) and its forms; the rows hold nothing afterwards unless they are kept.
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
        KEEPS_ROWS: int(out.keeps_rows),
    }
    program.add(run_norm, "norm", layer, values, keep=(x, weight, out), fills=out, outputs=outputs)


@operation("RMSNorm", name="norm")
def run_norm(o, s, n_rows, ith, nth, counter, scratch):
    """x: float32 (n_rows, n). weight: float32 (n,). out: float32 (n_rows, n) and its forms."""
    n, eps = o[N], float32_of_bits(o[EPS])
    row, last = share_of(n_rows, ith, nth)
    unkept = o[OUT] + row * o[OUT_STRIDE]
    while row < last:
        x = o[X] + row * o[X_STRIDE]
        n_together = min(2, last - row)
        if n_together == 2:
            totals = two_sums_of_squares(x, x + o[X_STRIDE], n)
        else:
            total = sum_of_squares(x, n)
            totals = total, total
        for i in range(n_together):
            out = o[OUT] + (row + i) * o[OUT_STRIDE] if o[KEEPS_ROWS] else unkept
            scale_row(x + i * o[X_STRIDE], o[WEIGHT], n, totals[i], eps, out)
            fill_forms(o[FORMS], out, row + i, 0, n)
        row += n_together


@kernel
def scale_row(x_address, weight_address, n, total, eps, out_address):
    """``out = x / sqrt(mean(x^2) + eps) * weight`` for one row.

    float32 squares are summed in float64 and the rest is float32, as in llama.cpp; the eight partial sums of
    `sum_of_squares` differ from its one running sum by 1e-16 relative, far below the float32 the mean is rounded to.

    Args:
        x_address, weight_address, out_address: float32 (n,); `out` may be `x`.
        n: row length.
        total: float64, the sum of the squares.
        eps: float32.
    """
    x, weight, out = as_float32(x_address), as_float32(weight_address), as_float32(out_address)
    mean = float32(total / float64(n))
    scale = float32(1.0) / sqrt(float32(mean + eps))
    for i in range(n):
        out[i] = (x[i] * scale) * weight[i]
