"""Addition of rows: ``out = a + b``."""

from __future__ import annotations

from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32
from llorch.kernels.jit import operation
from llorch.kernels.program import Program, operands

A, B, OUT, STRIDE, N = operands(5)


def add(program: Program, layer: int, a: Rows, b: Rows, out: Rows) -> None:
    """Write ``out = a + b``; all three have one stride.

    Args:
        program: gets the instruction.
        layer: its layer.
        a, b: float32 (n_rows, n).
        out: float32 (n_rows, n); may be one of them.
    """
    values = {A: a.address, B: b.address, OUT: out.address, STRIDE: a.stride, N: a.n}
    program.add(run_add, "add", layer, values, keep=(a, b, out))


@operation("addition", name="add")
def run_add(o, s, n_rows, ith, nth, counter, scratch):
    """a, b, out: float32 (n_rows, n)."""
    for row in range(ith, n_rows, nth):
        at = row * o[STRIDE]
        a, b, out = as_float32(o[A] + at), as_float32(o[B] + at), as_float32(o[OUT] + at)
        for i in range(o[N]):
            out[i] = a[i] + b[i]
