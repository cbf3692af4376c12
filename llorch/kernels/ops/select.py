"""Gathering the rows whose logits are wanted: ``out[i] = x[output_rows[i]]``."""

from __future__ import annotations

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32
from llorch.kernels.jit import operation
from llorch.kernels.ops.shares import share_of
from llorch.kernels.program import Program, operands

X, X_STRIDE, OUT, OUT_STRIDE, N = operands(5)


def select(program: Program, x: Rows, out: Rows) -> None:
    """Write ``out = x[output_rows]``.

    Args:
        program: gets the instruction.
        x: float32 (n_rows, n).
        out: float32 (n_outputs, n).
    """
    values = {X: x.address, X_STRIDE: x.stride, OUT: out.address, OUT_STRIDE: out.stride, N: x.n}
    program.add(run_select, "select", -1, values, keep=(x, out), outputs=True)


@operation("selection of rows", name="select")
def run_select(o, s, n_rows, ith, nth, counter, scratch):
    """x: float32 (n_rows, n). output_rows: int32 (n_outputs,). out: float32 (n_outputs, n)."""
    chosen = as_int32(s[st.OUTPUT_ROW_IDS])
    first, last = share_of(n_rows, ith, nth)
    for row in range(first, last):
        x, out = as_float32(o[X] + chosen[row] * o[X_STRIDE]), as_float32(o[OUT] + row * o[OUT_STRIDE])
        for i in range(o[N]):
            out[i] = x[i]
