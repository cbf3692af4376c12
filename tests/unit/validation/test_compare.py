"""Figures and verdicts of one comparison."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llorch.validation.bounds import Tolerance
from llorch.validation.compare import causal, compare

LOOSE = Tolerance(0.25, "test")
EXACT = Tolerance(0.0, "test")


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_figures_of_a_hand_computed_pair() -> None:
    theirs = f32(3.0, 0.0, 4.0, 0.0).reshape(2, 2)
    ours = f32(3.0, 0.0, 4.0, 1.0).reshape(2, 2)
    result = compare(ours, theirs, LOOSE)
    assert result.n_values == 4
    assert result.max_abs == 1.0
    assert result.mean_abs == 0.25
    assert result.nmse == pytest.approx(1 / 25)
    assert result.relative == pytest.approx(1 / 5)
    assert result.cosine == pytest.approx(25 / (5 * math.sqrt(26)))
    assert result.worst_index == (1, 1)
    assert (result.ours, result.theirs) == (1.0, 0.0)
    assert result.limit == 0.25
    assert not result.passed


def test_equal_arrays_pass_even_an_exact_tolerance() -> None:
    values = f32(1.0, -2.0, 0.0)
    result = compare(values, values.copy(), EXACT)
    assert result.passed
    assert (result.max_abs, result.nmse, result.cosine) == (0.0, 0.0, 1.0)


def test_one_bit_fails_an_exact_tolerance() -> None:
    assert not compare(f32(np.nextafter(np.float32(1), np.float32(2))), f32(1.0), EXACT).passed


def test_a_difference_at_the_limit_passes_and_just_above_fails() -> None:
    assert compare(f32(1.25), f32(1.0), LOOSE).passed
    assert not compare(f32(1.2500001), f32(1.0), LOOSE).passed


def test_the_relative_part_follows_the_peak_of_the_reference() -> None:
    tolerance = Tolerance(1e-4, "test", relative=1e-3)
    result = compare(f32(1000.9, 0.0), f32(1000.0, 0.0), tolerance)
    assert result.limit == pytest.approx(1.0001)
    assert result.passed
    assert not compare(f32(1.9, 0.0), f32(1.0, 0.0), tolerance).passed


def test_an_nmse_bound_alone_ignores_single_large_differences() -> None:
    theirs = np.ones(10_000, np.float32)
    ours = theirs.copy()
    ours[7] = 1.5
    assert compare(ours, theirs, Tolerance(None, "test", nmse=1e-4)).passed
    assert not compare(ours, theirs, Tolerance(None, "test", nmse=1e-6)).passed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tolerance", [LOOSE, Tolerance(None, "test", nmse=1.0), Tolerance(math.inf, "test")])
def test_nan_and_infinity_never_pass(bad: float, tolerance: Tolerance) -> None:
    result = compare(f32(1.0, bad, 3.0), f32(1.0, 2.0, 3.0), tolerance)
    assert not result.passed
    assert result.max_abs == math.inf
    assert result.worst_index == (1,)


def test_a_result_with_nan_is_still_valid_json() -> None:
    result = compare(f32(math.nan), f32(1.0), LOOSE)
    document = json.loads(json.dumps(result.model_dump(mode="json"), allow_nan=False))
    assert document["ours"] == "nan"
    assert document["max_abs"] == "inf"
    assert document["passed"] is False


def test_the_same_infinity_on_both_sides_is_no_difference() -> None:
    result = compare(f32(-math.inf, 1.0), f32(-math.inf, 1.0), EXACT)
    assert result.passed
    assert result.worst_index == (0,)


def test_left_out_pairs_do_not_count() -> None:
    ours = np.array([[1.0, math.nan], [1.0, 2.0]], np.float32)
    theirs = np.array([[1.0, 7.0], [1.0, 2.0]], np.float32)
    result = compare(ours, theirs, EXACT, where=causal(2, 0, 2))
    assert result.passed
    assert result.n_values == 3
    assert math.isfinite(result.nmse)


def test_the_worst_index_is_one_that_was_compared() -> None:
    where = np.array([False, True])
    assert compare(f32(9.0, 1.0), f32(1.0, 1.0), EXACT, where).worst_index == (1,)
    assert compare(f32(9.0, 1.5), f32(1.0, 1.0), EXACT, where).worst_index == (1,)


def test_nothing_to_compare_passes() -> None:
    assert compare(np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), EXACT).passed


def test_a_zero_reference_needs_zeros() -> None:
    zeros = np.zeros(3, np.float32)
    assert compare(zeros, zeros, Tolerance(None, "test", nmse=0.0)).passed
    result = compare(zeros + 1, zeros, Tolerance(None, "test", nmse=1e6))
    assert not result.passed
    assert result.cosine == 0.0


def test_other_shapes_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) differs from the reference's \(1, 2\)"):
        compare(f32(1.0, 2.0), f32(1.0, 2.0).reshape(1, 2), LOOSE)


def test_integers_and_bools_compare_too() -> None:
    assert compare(np.array([1, 2]), np.array([1, 2], np.int32), EXACT).passed
    assert not compare(np.array([1, 3]), np.array([1, 2]), EXACT).passed


def test_causal_masks_later_keys() -> None:
    assert causal(2, 3, 5).tolist() == [[True] * 4 + [False], [True] * 5]


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays.arrays(np.float32, (3, 4), elements=finite), arrays.arrays(np.float32, (3, 4), elements=finite))
def test_figures_agree_with_plain_formulas(ours: np.ndarray, theirs: np.ndarray) -> None:
    result = compare(ours, theirs, LOOSE)
    difference = np.abs(ours.astype(np.float64) - theirs)
    assert result.max_abs == difference.max()
    assert result.mean_abs == pytest.approx(difference.mean())
    assert difference[result.worst_index] == difference.max()
    assert result.passed == (difference.max() <= 0.25)
    assert -1.0 <= result.cosine <= 1.0
