"""The softmax of attention in three passes, for the observed program; the fast path (`attend`) makes one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import float32

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.emit.scalars import as_float32, as_int32, float32_of_bits
from llorch.kernels.emit.vectors import exp_float32
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.ops.attend_llama_cpp import exponentials_llama_cpp, multiply, scale_to_maximum
from llorch.kernels.ops.scores import score_row
from llorch.kernels.program import Program, float_bits, operands

N_HEAD, SCALE = operands(2)


def softmax_maximum(program: Program, layer: int, n_head: int, head_dim: int) -> None:
    """Write the first pass: raw scores times the scale, and the highest of each query's."""
    scale = float_bits(1.0 / np.sqrt(np.float32(head_dim)))
    program.add(_run_maximum, "softmax_maximum", layer, {N_HEAD: n_head, SCALE: scale}, keep=())


def softmax_exponential(program: Program, layer: int, n_head: int) -> None:
    """Write the second pass: exponentials of the differences from the highest score, and their sum."""
    program.add(_EXPONENTIAL[paths.sums()], "softmax_exponential", layer, {N_HEAD: n_head}, keep=())


def softmax_normalise(program: Program, layer: int, n_head: int) -> None:
    """Write the third pass: exponentials divided by their sum."""
    program.add(_NORMALISE[paths.sums()], "softmax_normalise", layer, {N_HEAD: n_head}, keep=())


@kernel
def _maximum(o, raw, n, weights, state, lanes):
    state[0] = scale_to_maximum(raw, n, float32_of_bits(o[SCALE]), weights)


@kernel
def _exponential(o, raw, n, weights, state, lanes):
    total = float32(0)
    for j in range(n):
        weights[j] = exp_float32(weights[j] - state[0])
        total += weights[j]
    state[1] = total


@kernel
def _normalise(o, raw, n, weights, state, lanes):
    for j in range(n):
        weights[j] /= state[1]


@kernel
def _exponential_llama_cpp(o, raw, n, weights, state, lanes):
    state[1] = exponentials_llama_cpp(weights, n, state[0], lanes)


@kernel
def _normalise_llama_cpp(o, raw, n, weights, state, lanes):
    multiply(weights, n, state[1])


def _make_run(title: str, name: str, row_pass: Any) -> Unit:
    @operation(title, name=name)
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """Raw scores and weights: float32 (n_head, n_rows, n_positions). States: float32 (n_rows, n_head, 2)."""
        n_head, positions, lanes = o[N_HEAD], as_int32(s[st.POSITIONS]), as_float32(scratch)
        for work in range(ith, n_rows * n_head, nth):
            at = score_row(s, work // n_head, work % n_head)
            raw, weights = as_float32(s[st.SCORES_RAW] + at), as_float32(s[st.SCORES_WEIGHTS] + at)
            state = as_float32(s[st.SCORES_STATES] + work * 8)
            row_pass(o, raw, positions[work // n_head] + 1, weights, state, lanes)

    return run


def _make_runs(what: str, row_pass: Any, row_pass_llama_cpp: Any) -> dict[str, Unit]:
    """By the order of additions (`paths.SUMS`)."""
    title, name = f"softmax: {what}", f"softmax_{what}"
    return {
        "llorch": _make_run(title, name, row_pass),
        "llama.cpp": _make_run(f"{title} in llama.cpp's order", f"{name}_llama_cpp", row_pass_llama_cpp),
    }


_run_maximum = _make_run("softmax: maximum", "softmax_maximum", _maximum)
_EXPONENTIAL = _make_runs("exponential", _exponential, _exponential_llama_cpp)
_NORMALISE = _make_runs("normalise", _normalise, _normalise_llama_cpp)
