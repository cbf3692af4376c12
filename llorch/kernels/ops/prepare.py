"""Filling the forms of an activation whose float32 rows another operation has written."""

from __future__ import annotations

from llorch.kernels.activations.fill import fill_forms
from llorch.kernels.buffers import Activation
from llorch.kernels.jit import operation
from llorch.kernels.ops.shares import share_of
from llorch.kernels.program import Program, operands

X, X_STRIDE, N, FORMS, PIECE = operands(5)


def prepare(program: Program, layer: int, x: Activation, outputs: bool = False) -> None:
    """Fill the forms of `x` from its rows, float32 (n_rows, n); nothing is written when it has none.

    Args:
        program: gets the instruction.
        layer: its layer.
        x: the activation.
        outputs: whether rows are the step's outputs.
    """
    if x.forms:
        values = {X: x.rows.address, X_STRIDE: x.rows.stride, N: x.rows.n, FORMS: x.tables, PIECE: x.piece}
        program.add(run_prepare, "prepare", layer, values, keep=(x,), fills=x, outputs=outputs)


@operation("activation forms", name="prepare")
def run_prepare(o, s, n_rows, ith, nth, counter, scratch):
    """x: float32 (n_rows, n) and its forms."""
    n_pieces = (o[N] + o[PIECE] - 1) // o[PIECE]
    first, last = share_of(n_rows * n_pieces, ith, nth)
    while first < last:
        row, start = first // n_pieces, first % n_pieces * o[PIECE]
        together = min(last - first, n_pieces - first % n_pieces)
        n = min(together * o[PIECE], o[N] - start)
        first += together
        fill_forms(o[FORMS], o[X] + row * o[X_STRIDE] + start * 4, row, start, n)
