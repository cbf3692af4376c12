"""Matrix product: ``out[t] = weight @ x[t]``, or ``+=``. The runners are the weight formats' own (`weights`)."""

from __future__ import annotations

from numpy import int64

from llorch.kernels import step as st
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.emit.scalars import as_int32
from llorch.kernels.jit import inlined
from llorch.kernels.program import Program, operands
from llorch.kernels.weights.format import Matrix

WEIGHTS, IS_PACKED, TILE_STRIDE, N_IN, N_OUT, X, OUT, OUT_STRIDE, ACCUMULATE, ROW_ORDER, ROW_SCALES = (
    operands(11)
)
"""Rows as in the file, or tiles; the table of the activation in the weights' form; 0 as OUT means the logits; 0 as
ROW_ORDER, that rows follow each other; ROW_SCALES, for formats whose rows have factors apart."""


def matmul(
    program: Program,
    label: str,
    layer: int,
    weight: Matrix,
    x: Activation,
    out: Rows | None,
    *,
    accumulate: bool = False,
    barrier: bool = True,
    outputs: bool = False,
) -> None:
    """Write ``out = weight @ x``, or ``+=``; without `out` the result goes to the step's logits.

    Args:
        program: gets the instruction.
        label: its name in timelines.
        layer: its layer.
        weight: (n_out, n_in).
        x: float32 (n_rows, n_in), with the form that the weight's format wants.
        out: float32 (n_rows, n_out).
        accumulate: whether the product is added to what is in `out`.
        barrier: whether the next instruction needs the product.
        outputs: whether rows are the step's outputs.

    Raises:
        ValueError: `x` lacks the form.
    """
    values = {
        WEIGHTS: weight.address,
        IS_PACKED: int(weight.is_packed),
        TILE_STRIDE: weight.tile_stride,
        N_IN: weight.n_in,
        N_OUT: weight.n_out,
        X: x.table(weight.format.activation),
        OUT: out.address if out else 0,
        OUT_STRIDE: out.stride if out else 0,
        ACCUMULATE: int(accumulate),
        ROW_ORDER: weight.row_order,
        ROW_SCALES: weight.row_scales,
    }
    keep = (weight, x, out)
    tiles = (weight.address, weight.tile_stride) if weight.is_packed else (0, 0)
    product = weight.format.product
    program.add(product, label, layer, values, keep=keep, barrier=barrier, outputs=outputs, tiles=tiles)


@inlined
def output_of(o, s):
    """Address and row stride of the result: float32 (n_rows, n_out), padded to whole tiles."""
    if o[OUT]:
        return o[OUT], o[OUT_STRIDE]
    return s[st.LOGITS], s[st.LOGITS_STRIDE]


@inlined
def stored_row(o, row):
    """Which of the stored rows is number `row`."""
    return int64(as_int32(o[ROW_ORDER])[row]) if o[ROW_ORDER] else row
