"""Activations as int8 with a scale a row: compressed-tensors' integers, whole rows, whoever fills them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.activations.int8_rows import INT8_ROWS
from llorch.kernels.activations.q8_0 import Q8_0
from llorch.kernels.buffers import Activation
from llorch.kernels.tiles.layout import BYTE_COLUMN_BYTES
from tests.support.kernel_calls import Floats, prepare, rms_norm, swiglu
from tests.support.naive import bits
from tests.support.naive_int8_rows import quantize_rows

WIDE = 1536
"""More columns than a thread fills at a time in forms made of blocks."""


def of(activation: Activation) -> tuple[NDArray[np.int8], Floats]:
    """Integers in the order of columns, and scales."""
    q, scales, _ = activation.forms[INT8_ROWS].arrays
    if BYTE_COLUMN_BYTES == 2:
        q = q.reshape(len(q), -1, 2, 2).swapaxes(2, 3).reshape(q.shape)  # even columns of 4 first
    return q.astype(np.int8), scales


def assert_quantised(activation: Activation, n_rows: int) -> None:
    q, scales = of(activation)
    expected, expected_scales = quantize_rows(activation.rows.view(n_rows).copy())
    np.testing.assert_array_equal(q, expected)
    np.testing.assert_array_equal(bits(scales), bits(expected_scales))


def activations(n_rows: int, n: int) -> Floats:
    return (np.random.default_rng(n).standard_normal((n_rows, n)) * 5).astype(np.float32)


def test_prepared_rows_have_the_integers_and_scales_of_the_twin() -> None:
    for n in (32, 96, WIDE):
        assert_quantised(prepare(activations(7, n), INT8_ROWS, n_threads=3), 7)


def test_the_scale_is_that_of_the_whole_row_when_swiglu_fills_it() -> None:
    gate, up = activations(5, WIDE), activations(5, WIDE)[::-1].copy()
    gate[:, -1] = up[:, -1] = 40.0  # the largest value comes last
    alone, beside = swiglu(gate, up, INT8_ROWS, n_threads=3), swiglu(gate, up, Q8_0, INT8_ROWS)
    assert_quantised(alone, 5)
    assert_quantised(beside, 5)
    without = swiglu(gate, up, Q8_0)
    np.testing.assert_array_equal(bits(beside.rows.view(5)), bits(without.rows.view(5)))
    np.testing.assert_array_equal(beside.forms[Q8_0].arrays[0], without.forms[Q8_0].arrays[0])


def test_norm_fills_whole_rows() -> None:
    x = activations(4, WIDE)
    assert_quantised(rms_norm(x, np.ones(WIDE, np.float32), 1e-5, INT8_ROWS, n_threads=2), 4)


def test_a_negative_largest_value_becomes_minus_128_and_a_positive_one_127() -> None:
    x = np.zeros((2, 32), np.float32)
    x[0, 3], x[1, 3] = -7.0, 7.0
    q, _ = of(prepare(x, INT8_ROWS))
    assert q[:, 3].tolist() == [-128, 127]


def test_a_row_of_zeros_has_the_smallest_scale() -> None:
    q, scales = of(prepare(np.zeros((1, 64), np.float32), INT8_ROWS))
    assert not q.any()
    assert scales[0, 0] == np.finfo(np.float32).eps


def test_numbers_next_to_nothing_are_quantised_too() -> None:
    x = activations(3, 64)
    x[0] *= np.float32(1e-30)
    x[1] *= np.float32(1e-42)
    assert_quantised(prepare(x, INT8_ROWS), 3)


def test_a_nan_gives_its_row_a_nan_scale() -> None:
    x = activations(3, 96)
    x[1, 50] = np.nan
    _, scales = of(prepare(x, INT8_ROWS))
    assert np.isnan(scales[:, 0]).tolist() == [False, True, False]
