"""Typical-p, top-n-sigma, XTC and the dynamic temperature; vectors of llama.cpp's `tests/test-sampling.cpp`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llorch.engine.narrowing import Candidates, softmax
from llorch.engine.rare_steps import any_temperature, dynamic_temperature, top_n_sigma, typical_p, xtc

TOLERANCE = 1e-5
"""llama.cpp's own in these tests."""


def of(*probabilities: float) -> Candidates:
    return Candidates.from_logits(np.log(np.array(probabilities, np.float32)))


def assert_left(candidates: Candidates, expected: list[float]) -> None:
    np.testing.assert_allclose(softmax(candidates.logits), np.array(expected) / sum(expected), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("probabilities", "p", "expected"),
    [
        ([0.97, 0.01, 0.01, 0.01], 0.5, [0.97]),
        ([0.4, 0.2, 0.2, 0.2], 0.5, [0.2, 0.2, 0.2]),
        ([0.4, 0.2, 0.2, 0.2], 1.0, [0.4, 0.2, 0.2, 0.2]),
    ],
)
def test_typical_p_as_llama_cpp(probabilities: list[float], p: float, expected: list[float]) -> None:
    assert_left(typical_p(of(*probabilities), p), expected)


def test_typical_p_leaves_out_what_cannot_come() -> None:
    logits = np.array([0, -np.inf, 0.1, -np.inf], np.float32)
    assert typical_p(Candidates.from_logits(logits), 0.9).token_ids.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1.0, [0, 0, 0.428571, 0.571429]), (0.0, [0.1, 0.2, 0.3, 0.4]), (3.0, [0.1, 0.2, 0.3, 0.4])],
)
def test_top_n_sigma_as_llama_cpp(n: float, expected: list[float]) -> None:
    assert_left(top_n_sigma(of(0.1, 0.2, 0.3, 0.4), n), expected)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.09, [0.1]),
        (0.19, [0.2, 0.1]),
        (0.29, [0.3, 0.2, 0.1]),
        (0.39, [0.4, 0.3, 0.2, 0.1]),
        (0.51, [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_xtc_as_llama_cpp(threshold: float, expected: list[float]) -> None:
    assert_left(xtc(of(0.4, 0.3, 0.2, 0.1), 0.99, threshold, lambda: 0.5), expected)


def test_xtc_strikes_as_often_as_it_is_told_to_and_asks_chance_only_where_it_could() -> None:
    def refuse() -> float:
        raise AssertionError("nothing could be dropped")

    candidates = of(0.5, 0.3, 0.2)
    assert len(xtc(candidates, 0.5, 0.1, lambda: 0.51).logits) == 3
    assert xtc(candidates, 0.5, 0.1, lambda: 0.49).token_ids.tolist() == [2]
    for probability, threshold, some in ((0.0, 0.1, candidates), (1.0, 0.6, candidates), (1.0, 0.1, of(1.0))):
        assert xtc(some, probability, threshold, refuse) is some


def test_of_equals_xtc_keeps_the_larger_id() -> None:
    assert xtc(of(0.3, 0.2, 0.2, 0.3), 1.0, 0.1, lambda: 0.0).token_ids.tolist() == [2]


def test_the_temperature_follows_the_entropy() -> None:
    certain = Candidates.from_logits(np.array([50, 0, 0, 0], np.float32))
    open_ = Candidates.from_logits(np.array([0, 0, 0, 0], np.float32))
    between = of(0.5, 0.25, 0.125, 0.125)
    assert dynamic_temperature(certain, 1.0, 0.5, 1.0).logits[0] == pytest.approx(50 / 0.5, rel=1e-5)
    assert dynamic_temperature(open_, 1.0, 0.5, 1.0).logits.tolist() == [0, 0, 0, 0]
    for exponent in (1.0, 2.0):
        heat = 0.5 + 1.0 * (1.75 / 2) ** exponent  # 1.75 of at most 2 bits
        got = dynamic_temperature(between, 1.0, 0.5, exponent).logits
        assert got[0] == pytest.approx(math.log(0.5) / heat, rel=1e-5)
    assert dynamic_temperature(certain, 0.5, 0.5, 1.0).token_ids.tolist() == [0]  # down to nothing


def test_no_temperature_leaves_the_first_of_the_largest() -> None:
    candidates = Candidates.from_logits(np.array([1, 3, 3], np.float32))
    assert any_temperature(candidates, 0.0).token_ids.tolist() == [1]
    assert any_temperature(candidates, 2.0).logits.tolist() == [0.5, 1.5, 1.5]
