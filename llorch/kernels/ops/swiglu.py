"""The SwiGLU gate: ``out = gate * sigmoid(gate) * up``, in every form of `out`."""

from __future__ import annotations

from typing import Any

from numpy import float32

from llorch.kernels import paths
from llorch.kernels.activations.fill import fill_forms
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.emit.scalars import as_float32
from llorch.kernels.emit.vectors import exp_float32, swiglu_vectors
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.layout import CHUNKS_TOGETHER, FLOAT_LANES
from llorch.kernels.ops.shares import share_of
from llorch.kernels.ops.swiglu_llama_cpp import swiglu_row_llama_cpp
from llorch.kernels.program import Program, operands

GATE, UP, STRIDE, N, OUT, FORMS, PIECE, KEEPS_ROWS = operands(8)


def swiglu(program: Program, layer: int, gate: Rows, up: Rows, out: Activation) -> None:
    """Write ``out = silu(gate) * up``; all three have one stride.

    Args:
        program: gets the instruction.
        layer: its layer.
        gate, up: float32 (n_rows, n).
        out: float32 (n_rows, n) and its forms; the rows hold nothing afterwards unless they are kept.
    """
    values = {
        GATE: gate.address,
        UP: up.address,
        STRIDE: gate.stride,
        N: gate.n,
        OUT: out.rows.address,
        FORMS: out.tables,
        PIECE: out.piece,
        KEEPS_ROWS: int(out.keeps_rows),
    }
    run = _run_llama_cpp if paths.sums() == "llama.cpp" else _run_fast
    program.add(run, "swiglu", layer, values, keep=(gate, up, out), fills=out)


@kernel
def swiglu_row(gate_address, up_address, n, out_address):
    """``out = gate * sigmoid(gate) * up``, float32 (n,); `out` may be `gate`."""
    n_whole = n // FLOAT_LANES * FLOAT_LANES
    swiglu_vectors(gate_address, up_address, n // FLOAT_LANES, out_address)
    gate, up, out = as_float32(gate_address), as_float32(up_address), as_float32(out_address)
    for i in range(n_whole, n):
        out[i] = (gate[i] / (float32(1.0) + exp_float32(-gate[i]))) * up[i]


def _make_run(title: str, name: str, row_kernel: Any) -> Unit:
    @operation(title, name=name)
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """gate, up: float32 (n_rows, n). out: float32 (n_rows, n) and its forms."""
        n_pieces = (o[N] + o[PIECE] - 1) // o[PIECE]
        first, last = share_of(n_rows * n_pieces, ith, nth)
        out = o[OUT] + first // n_pieces * o[STRIDE] + first % n_pieces * o[PIECE] * 4
        while first < last:
            row, start = first // n_pieces, first % n_pieces * o[PIECE]
            together = min(CHUNKS_TOGETHER, last - first, n_pieces - first % n_pieces)
            n = min(together * o[PIECE], o[N] - start)
            first += together
            at = row * o[STRIDE] + start * 4
            if o[KEEPS_ROWS]:
                out = o[OUT] + at
            row_kernel(o[GATE] + at, o[UP] + at, n, out)
            fill_forms(o[FORMS], out, row, start, n)

    return run


_run_fast = _make_run("SwiGLU", "swiglu", swiglu_row)
_run_llama_cpp = _make_run("SwiGLU in llama.cpp's order", "swiglu_llama_cpp", swiglu_row_llama_cpp)
