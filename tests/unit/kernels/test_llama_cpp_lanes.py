"""The order in which the twins add (`llama_cpp_lanes`), against NumPy one rounding at a time. (Whether it is
llama.cpp's: `tests/golden/test_greedy.py` and `tests/integration/test_llama_cpp_sums.py`.)"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.emit.scalars import as_float32
from llorch.kernels.ops.attend_llama_cpp import soft_max
from llorch.kernels.ops.swiglu_llama_cpp import exp_float32_llama_cpp
from llorch.quant.tensor import dequantize
from llorch.quant.types import BF16, F16, F32, Q8_0, QuantType
from tests.support import kernel_calls, naive

Floats = NDArray[np.float32]
FORMS = {F32: "f32", F16: "f16", BF16: "bf16"}


@pytest.fixture(autouse=True)
def llama_cpp_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs written in this module take the twins."""
    monkeypatch.setattr(paths, "sums", lambda: "llama.cpp")


@numba.njit
def exponentials(x: Floats, out: Floats) -> None:
    for i in range(len(x)):
        out[i] = exp_float32_llama_cpp(x[i])


@numba.njit
def soft_max_of(raw: Floats, scale: np.float32, weights: Floats, lanes: Floats) -> None:
    soft_max(as_float32(raw.ctypes.data), len(raw), scale, as_float32(weights.ctypes.data), lanes)


def by_halves(lanes: Floats) -> np.float32:
    """Eight lanes: the upper half onto the lower, until one is left."""
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return np.float32(lanes[0])


def by_neighbours(lanes: Floats) -> np.float32:
    """Eight lanes: the upper half onto the lower, then each onto its neighbour."""
    lanes = lanes[:4] + lanes[4:]
    return np.float32((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))


def in_lanes(a: Floats, b: Floats) -> Floats:
    """Whole steps of 32 products in four registers of eight lanes, added up to one register."""
    sums = np.zeros(32, np.float32)
    for start in range(0, a.size // 32 * 32, 32):
        sums = naive.fused_multiply_add(a[start : start + 32], b[start : start + 32], sums)
    registers = sums.reshape(4, 8)
    return (registers[0] + registers[2]) + (registers[1] + registers[3])


@pytest.mark.parametrize("n", [32, 64, 352])
def test_a_q8_0_row_is_added_in_eight_lanes_of_four_columns(n: int) -> None:
    rng = np.random.default_rng(n)
    weight = kernel_calls.tensor_of(rng.standard_normal((1, n)).astype(np.float32), Q8_0)
    x = rng.standard_normal((1, n)).astype(np.float32)
    q, d, _ = kernel_calls.q8_0_of(kernel_calls.prepare(x, kernel_calls.Q8_0_FORM))
    blocks = weight.data.reshape(-1, 34)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32).ravel()
    products = blocks[:, 2:].view(np.int8).astype(np.int32) * q.reshape(-1, 32).astype(np.int32)
    lanes = np.zeros(8, np.float32)
    for quads, scale in zip(products.reshape(-1, 8, 4).sum(-1), scales * d.ravel(), strict=True):
        lanes = naive.fused_multiply_add(scale, quads.astype(np.float32), lanes)
    assert kernel_calls.matmul(weight, x)[0, 0] == by_halves(lanes)


@pytest.mark.parametrize("n", [5, 8, 32, 43, 172])
@pytest.mark.parametrize("quant_type", FORMS, ids=FORMS.values())
def test_a_row_of_floats_is_added_in_four_registers_and_its_end_one_by_one(
    quant_type: QuantType, n: int
) -> None:
    rng = np.random.default_rng(n)
    weight = kernel_calls.tensor_of(rng.standard_normal((1, n)).astype(np.float32), quant_type)
    given = rng.standard_normal(n).astype(np.float32)
    x = naive.round_activations(given, FORMS[quant_type]).astype(np.float32)
    w = dequantize(weight)[0]
    lanes, rest = in_lanes(w, x), range(n // 32 * 32, n)
    if quant_type is F32:
        expected = by_neighbours(lanes)
        for i in rest:
            is_fused = i >= n // 4 * 4
            expected = (
                np.float32(naive.fused_multiply_add(w[i], x[i], expected))
                if is_fused
                else expected + w[i] * x[i]
            )
    else:
        wide = np.float64(by_neighbours(lanes) if quant_type is F16 else by_halves(lanes))
        for i in rest:
            wide += np.float64(w[i] * x[i])
        expected = np.float32(wide)
    assert kernel_calls.matmul(weight, given[None])[0, 0] == expected


def test_the_exponential_is_within_two_ulp_and_vanishes_below_float32() -> None:
    x = np.random.default_rng(0).uniform(-87, 88, 20_000).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    got = np.empty_like(x)
    exponentials(x, got)
    assert np.max(np.abs(got - exact) / np.spacing(exact.astype(np.float32))) < 2
    small = np.empty(2, np.float32)
    exponentials(np.array([-100, -200], np.float32), small)
    assert small[0] == pytest.approx(np.exp(np.float64(-100)), rel=0.05)
    assert small[1] == 0


def test_softmax_weights_sum_to_one_and_keep_their_order() -> None:
    raw = np.random.default_rng(0).standard_normal(37).astype(np.float32)
    weights = np.empty_like(raw)
    soft_max_of(raw, np.float32(0.5), weights, np.empty(8, np.float32))
    scaled = raw.astype(np.float64) * 0.5
    np.testing.assert_allclose(weights, np.exp(scaled) / np.exp(scaled).sum(), rtol=1e-6)
