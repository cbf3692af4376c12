"""How probable tokens are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llorch.engine.logprobs import token_logprobs
from llorch.errors import NumericalError

Row = NDArray[np.float32]

rows = st.lists(
    st.floats(-40, 40, width=32) | st.sampled_from([0.0, -0.0, 1.5, -math.inf]), min_size=1, max_size=70
).map(lambda values: np.array([*values, 0.25], np.float32))


def naive(logits: Row) -> list[float]:
    """In float64, from the definition."""
    values = [float(value) for value in logits]
    total = math.fsum(math.exp(value) for value in values)
    return [value - math.log(total) for value in values]


@given(rows, st.integers(0, 20), st.data())
def test_they_are_the_logarithms_of_a_softmax(logits: Row, n_top: int, data: st.DataObject) -> None:
    token_id = data.draw(st.integers(0, len(logits) - 1))
    found, expected = token_logprobs(logits, token_id, n_top), naive(logits)
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:n_top]
    assert [i for i, _ in found.top] == order
    for i, value in [(token_id, found.logprob), *found.top]:
        assert value == pytest.approx(max(expected[i], float(np.finfo(np.float32).min)), abs=1e-4, rel=1e-5)


@given(rows, st.integers(1, 20))
def test_the_most_probable_token_has_the_identical_number_in_both_places(logits: Row, n_top: int) -> None:
    best = int(logits.argmax())
    found = token_logprobs(logits, best, n_top)
    assert found.top[0] == (best, found.logprob)
    assert found.logprob == max(value for _, value in found.top)


def test_a_token_a_hair_less_probable_has_another_number() -> None:
    logits = np.array([np.nextafter(np.float32(1), np.float32(0)), 1, *np.zeros(100000)], np.float32)
    assert token_logprobs(logits, 0, 1).logprob < token_logprobs(logits, 1, 1).logprob


def test_a_row_in_an_array_of_rows_gives_the_bits_that_it_gives_alone() -> None:
    padded = np.random.default_rng(0).standard_normal((7, 1003)).astype(np.float32) * 8
    for row in padded[:, :1001]:
        assert token_logprobs(row, 5, 20) == token_logprobs(row.copy(), 5, 20)


def test_they_can_be_sent_as_json_whatever_the_logits_are() -> None:
    logits = np.array([3e38, -3e38, -np.inf, 1.0], np.float32)
    found = token_logprobs(logits, 2, 4)
    values = [found.logprob, *(value for _, value in found.top)]
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert [i for i, _ in found.top] == [0, 3, 1, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_unusable_logits_are_no_probabilities(bad: float) -> None:
    with pytest.raises(NumericalError):
        token_logprobs(np.array([0.0, bad, 1.0], np.float32), 0, 1)
    with pytest.raises(NumericalError):
        token_logprobs(np.full(3, -np.inf, np.float32), 0, 1)
