"""Addition of rows: ``out = a + b``, or of one vector to every row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32
from llorch.kernels.jit import operation
from llorch.kernels.ops.shares import share_of
from llorch.kernels.program import Program, operands

A, B, OUT, STRIDE, B_STRIDE, N = operands(6)


def add(program: Program, layer: int, a: Rows, b: Rows, out: Rows) -> None:
    """Write ``out = a + b``; all three have one stride.

    Args:
        program: gets the instruction.
        layer: its layer.
        a, b: float32 (n_rows, n).
        out: float32 (n_rows, n); may be one of them.
    """
    values = {A: a.address, B: b.address, OUT: out.address, STRIDE: a.stride, B_STRIDE: b.stride, N: a.n}
    program.add(run_add, "add", layer, values, keep=(a, b, out))


def add_bias(program: Program, layer: int, bias: NDArray[np.float32], x: Rows) -> None:
    """Write ``x += bias``, for every row.

    Args:
        program: gets the instruction.
        layer: its layer.
        bias: float32 (n,).
        x: float32 (n_rows, n), changed.
    """
    values = {A: x.address, B: int(bias.ctypes.data), OUT: x.address, STRIDE: x.stride, B_STRIDE: 0, N: x.n}
    program.add(run_add, "bias", layer, values, keep=(bias, x))


@operation("addition", name="add")
def run_add(o, s, n_rows, ith, nth, counter, scratch):
    """a, out: float32 (n_rows, n). b: the same, or one row with a stride of 0."""
    first, last = share_of(n_rows, ith, nth)
    for row in range(first, last):
        at = row * o[STRIDE]
        a, b, out = as_float32(o[A] + at), as_float32(o[B] + row * o[B_STRIDE]), as_float32(o[OUT] + at)
        for i in range(o[N]):
            out[i] = a[i] + b[i]
