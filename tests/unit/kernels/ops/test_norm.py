"""RMSNorm, bit for bit the twin that sums squares in one float64."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.kernels.buffers import Activation
from llorch.quant.codecs.q8_0 import quantize_activation_q8_0
from tests.support import kernel_calls, naive
from tests.support.naive import bits

RELATIVE = 4e-7
"""Against float64: a handful of float32 roundings of 6e-8."""


def test_a_row_worked_out_by_hand() -> None:
    x = np.array([[3.0, 4.0, 0.0, 0.0]], np.float32)  # mean square 25 / 4
    out = kernel_calls.rms_norm(x, np.array([1, 1, 1, 2], np.float32), 0.0)
    np.testing.assert_allclose(out.rows.view(1), [[1.2, 1.6, 0, 0]], rtol=1e-7)


@pytest.mark.parametrize("n", [1, 3, 7, 8, 9, 16, 31, 64, 100, 288, 2048])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_rows_equal_the_twin_bit_for_bit(n: int, scale: float) -> None:
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((4, n)) * scale).astype(np.float32)
    weight = rng.standard_normal(n).astype(np.float32)
    out = kernel_calls.rms_norm(x, weight, 1e-5, n_threads=2).rows.view(4)
    np.testing.assert_array_equal(bits(out), bits(naive.rms_norm(x, weight, 1e-5)))
    exact = x.astype(np.float64)
    exact = exact / np.sqrt((exact**2).mean(-1, keepdims=True) + np.float64(np.float32(1e-5))) * weight
    np.testing.assert_allclose(out, exact, rtol=RELATIVE, atol=1e-40)


def test_a_large_mean_in_long_rows_is_summed_without_loss() -> None:
    x = np.full((1, 4096), 1.0, np.float32)
    x[0, 0] = 4096.0
    weight = np.ones(4096, np.float32)
    out = kernel_calls.rms_norm(x, weight, 1e-6).rows.view(1)
    np.testing.assert_array_equal(bits(out), bits(naive.rms_norm(x, weight, 1e-6)))


def test_zeros_and_values_that_are_no_numbers() -> None:
    x = np.zeros((3, 32), np.float32)
    x[1, 5], x[2, 6] = np.nan, np.inf
    out = kernel_calls.rms_norm(x, np.ones(32, np.float32), 1e-5).rows.view(3)
    assert (out[0] == 0).all()
    assert np.isnan(out[1]).all()
    assert np.isnan(out[2, 6])


def test_the_fused_forms_equal_those_made_afterwards() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((3, 96)).astype(np.float32), rng.standard_normal(96).astype(np.float32)
    out = kernel_calls.rms_norm(x, weight, 1e-5, kernel_calls.Q8_0_FORM)
    q, d = quantize_activation_q8_0(out.rows.view(3).copy())
    made_q, made_d, _ = kernel_calls.q8_0_of(out)
    np.testing.assert_array_equal(made_q, q)
    np.testing.assert_array_equal(bits(made_d), bits(d))


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_the_forms_are_the_same_where_nobody_keeps_the_rows(n_threads: int) -> None:
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((7, 96)).astype(np.float32), rng.standard_normal(96).astype(np.float32)
    kept = kernel_calls.rms_norm(x, weight, 1e-5, kernel_calls.Q8_0_FORM)
    np.testing.assert_array_equal(bits(kept.rows.view(7)), bits(naive.rms_norm(x, weight, 1e-5)))
    form = kernel_calls.Q8_0_FORM
    out = kernel_calls.rms_norm(x, weight, 1e-5, form, n_threads=n_threads, keeps_rows=False)
    for array, other in zip(kernel_calls.q8_0_of(out), kernel_calls.q8_0_of(kept), strict=True):
        np.testing.assert_array_equal(array, other)


def test_weights_cannot_read_rows_that_nobody_keeps() -> None:
    out = Activation.empty(2, 32, [kernel_calls.Q8_0_FORM])
    with pytest.raises(ValueError, match="keep"):
        out.table(None)
    Activation.empty(2, 32, [None, kernel_calls.Q8_0_FORM]).table(None)
