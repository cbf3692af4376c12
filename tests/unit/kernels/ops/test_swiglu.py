"""The exponential over its whole range, and SwiGLU."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import kernel_calls, naive_rows
from tests.support.naive import bits

MAX_ULP = 1
LOWEST, HIGHEST = -87.336, 88.376
"""Where e^x is a normal float32 and the kernel does not saturate."""
SWIGLU_RELATIVE = 8e-7
"""One ulp of the exponential, an addition, a division and a product."""


def exp(x: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty_like(x)
    kernel_calls.exp_array(x, out)
    return out


def ulp_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> int:
    """Largest number of representable values between positive floats."""
    return int(np.abs(bits(a).astype(np.int64) - bits(b).astype(np.int64)).max())


def test_the_exponential_is_within_one_ulp_over_its_range() -> None:
    rng = np.random.default_rng(0)
    small = rng.choice([-1, 1], 200_000) * 10.0 ** rng.uniform(-12, 0, 200_000)
    x = np.concatenate([rng.uniform(LOWEST, HIGHEST, 400_000), small]).astype(np.float32)
    assert ulp_distance(exp(x), np.exp(x.astype(np.float64)).astype(np.float32)) <= MAX_ULP


def test_the_exponential_of_halves_of_ln_2_is_within_one_ulp() -> None:
    """There the polynomial's argument is largest and the exponent changes."""
    points = np.arange(-250, 254) * (np.log(2) / 2)
    x = points[(points > LOWEST) & (points < HIGHEST)].astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    assert ulp_distance(exp(x), np.exp(x.astype(np.float64)).astype(np.float32)) <= MAX_ULP


def test_the_exponential_of_special_values() -> None:
    x = np.array([0.0, -0.0, -np.inf, np.inf, np.nan, -88.0, -1e30, 100.0, 3e38], np.float32)
    out = exp(x)
    assert out[:3].tolist() == [1.0, 1.0, 0.0]
    assert np.isnan(out[4])
    assert (out[5:7] == 0).all()
    assert np.isfinite(out[[3, 7, 8]]).all()
    assert (out[[3, 7, 8]] > 2e38).all()


def test_the_exponential_never_decreases() -> None:
    x = np.linspace(-90, 90, 400_001).astype(np.float32)
    out = exp(x).astype(np.float64)
    steps = np.diff(out)
    assert (steps >= -2 * np.spacing(out[:-1].astype(np.float32))).all()


@pytest.mark.parametrize("n", [1, 15, 16, 172, 511, 512, 513, 1100])
def test_swiglu_equals_float64(n: int) -> None:
    rng = np.random.default_rng(n)
    gate = (rng.standard_normal((3, n)) * 6).astype(np.float32)
    up = rng.standard_normal((3, n)).astype(np.float32)
    out = kernel_calls.swiglu(gate, up, n_threads=2).rows.view(3)
    g = gate.astype(np.float64)
    np.testing.assert_allclose(out, g / (1 + np.exp(-g)) * up, rtol=SWIGLU_RELATIVE, atol=1e-40)


@pytest.mark.parametrize("n", [1, 16, 40, 600, 1536])
def test_swiglu_and_the_exponential_equal_their_twins_bit_for_bit(n: int) -> None:
    rng = np.random.default_rng(n)
    gate = (rng.standard_normal((5, n)) * 10.0 ** rng.integers(-9, 3, (5, n))).astype(np.float32)
    gate[1] = rng.uniform(-95, 95, n)
    gate[2] = rng.choice(
        np.array([0, -0.0, np.inf, -np.inf, 87.34, 88.38, 3e38, -3e38, 1e-40], np.float32), n
    )
    up = rng.standard_normal((5, n)).astype(np.float32)
    out = kernel_calls.swiglu(gate, up, n_threads=2).rows.view(5)
    np.testing.assert_array_equal(bits(out), bits(naive_rows.swiglu(gate, up)))
    np.testing.assert_array_equal(bits(exp(gate[1])), bits(naive_rows.exponential(gate[1])))


def test_swiglu_of_what_is_no_number_is_none() -> None:
    gate, up = np.ones((2, 1, 40), np.float32)
    gate[0, [2, 35]] = up[0, [7, 38]] = np.nan
    out = kernel_calls.swiglu(gate, up).rows.view(1)[0]
    assert np.flatnonzero(np.isnan(out)).tolist() == [2, 7, 35, 38]


def test_swiglu_of_large_gates_neither_overflows_nor_loses_the_limit() -> None:
    gate = np.array([[0.0, 1.0, -1.0, 30.0, -30.0, 100.0, -100.0, 1e30, -1e4]], np.float32)
    out = kernel_calls.swiglu(gate, np.ones_like(gate)).rows.view(1)[0]
    np.testing.assert_allclose(out[:4], [0, 0.731058578630, -0.26894142137, 30], rtol=3e-7)
    np.testing.assert_allclose(out[4:], [-30 * np.exp(-30.0), 100, 0, 1e30, 0], rtol=1e-6, atol=1e-30)


def test_the_fused_forms_equal_those_made_afterwards() -> None:
    rng = np.random.default_rng(1)
    gate, up = (rng.standard_normal((2, 600)).astype(np.float32) for _ in range(2))
    out = kernel_calls.swiglu(gate, up, kernel_calls.F16_FORM, n_threads=2)
    np.testing.assert_array_equal(
        bits(kernel_calls.rounded_of(out, kernel_calls.F16_FORM)), bits(out.rows.view(2).astype(np.float16))
    )


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [32, 288, 544, 800])
def test_the_forms_are_the_same_where_nobody_keeps_the_rows(n: int, n_threads: int) -> None:
    rng = np.random.default_rng(n)
    gate, up = (rng.standard_normal((5, n)).astype(np.float32) for _ in range(2))
    kept = kernel_calls.swiglu(gate, up, kernel_calls.Q8_0_FORM, n_threads=n_threads)
    out = kernel_calls.swiglu(gate, up, kernel_calls.Q8_0_FORM, n_threads=n_threads, keeps_rows=False)
    for array, other in zip(kernel_calls.q8_0_of(out), kernel_calls.q8_0_of(kept), strict=True):
        np.testing.assert_array_equal(array, other)
    assert (out.rows.data[:, n:] == kernel_calls.SENTINEL).all()
