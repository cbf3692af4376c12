"""The SwiGLU gate: ``out = gate * sigmoid(gate) * up``, in every form of `out`."""

from __future__ import annotations

from typing import Any

from numpy import float32

from llorch.kernels import paths
from llorch.kernels.activations.fill import fill_forms
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.emit.scalars import as_float32
from llorch.kernels.emit.vectors import exp_float32, swiglu_16
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.layout import FLOAT_LANES
from llorch.kernels.ops.swiglu_llama_cpp import swiglu_row_llama_cpp
from llorch.kernels.program import Program, operands

GATE, UP, STRIDE, N, OUT, FORMS, PIECE = operands(7)


def swiglu(program: Program, layer: int, gate: Rows, up: Rows, out: Activation) -> None:
    """Write ``out = silu(gate) * up``; all three have one stride.

    Args:
        program: gets the instruction.
        layer: its layer.
        gate, up: float32 (n_rows, n).
        out: float32 (n_rows, n) and its forms; its rows may be `gate`.
    """
    values = {
        GATE: gate.address,
        UP: up.address,
        STRIDE: gate.stride,
        N: gate.n,
        OUT: out.rows.address,
        FORMS: out.tables,
        PIECE: out.piece,
    }
    run = _run_llama_cpp if paths.sums() == "llama.cpp" else _run_fast
    program.add(run, "swiglu", layer, values, keep=(gate, up, out), fills=out)


@kernel
def swiglu_row(gate_address, up_address, n, out_address):
    """``out = gate * sigmoid(gate) * up``, float32 (n,); `out` may be `gate`."""
    n_whole = n // FLOAT_LANES * FLOAT_LANES
    for i in range(0, n_whole, FLOAT_LANES):
        swiglu_16(gate_address + i * 4, up_address + i * 4, out_address + i * 4)
    gate, up, out = as_float32(gate_address), as_float32(up_address), as_float32(out_address)
    for i in range(n_whole, n):
        out[i] = (gate[i] / (float32(1.0) + exp_float32(-gate[i]))) * up[i]


def _make_run(title: str, name: str, row_kernel: Any) -> Unit:
    @operation(title, name=name)
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """gate, up: float32 (n_rows, n). out: float32 (n_rows, n) and its forms."""
        n_pieces = (o[N] + o[PIECE] - 1) // o[PIECE]
        for work in range(ith, n_rows * n_pieces, nth):
            row, start = work // n_pieces, work % n_pieces * o[PIECE]
            n = min(o[PIECE], o[N] - start)
            at = row * o[STRIDE] + start * 4
            row_kernel(o[GATE] + at, o[UP] + at, n, o[OUT] + at)
            fill_forms(o[FORMS], o[OUT] + at, row, start, n)

    return run


_run_fast = _make_run("SwiGLU", "swiglu", swiglu_row)
_run_llama_cpp = _make_run("SwiGLU in llama.cpp's order", "swiglu_llama_cpp", swiglu_row_llama_cpp)
