"""DRY: vectors of llama.cpp's `tests/test-sampling.cpp`, and repeats found by a search of every end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.engine.dry import Breakers, Repeats, repeat_lengths
from llorch.engine.narrowing import softmax
from llorch.engine.params import SamplingParams

N_VOCAB = 5
NO_BREAKERS = Breakers({}, N_VOCAB)


def dry(multiplier: float, base: float = 1.75, allowed: int = 2, last_n: int = -1) -> SamplingParams:
    return SamplingParams(
        dry_multiplier=multiplier, dry_base=base, dry_allowed_length=allowed, dry_penalty_last_n=last_n
    )


def penalties(
    params: SamplingParams, token_ids: list[int], breakers: Breakers = NO_BREAKERS
) -> dict[int, float]:
    found, amounts = Repeats(params, breakers, token_ids).penalties()
    return dict(zip(found.tolist(), amounts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("n", "token_ids", "expected", "params", "breaker"),
    [
        (4, [0, 1], [0.25] * 4, dry(1.0, 1.1, 2, 4), None),
        (4, [0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923], dry(1.0, 1.1, 2, 5), None),
        (5, [0, 1, 3, 4, 0, 1], [0.2] * 5, dry(1.0, 1.1, 2, 6), 3),
        (5, [0, 1, 2, 0, 1], [0.241818, 0.241818, 0.032727, 0.241818, 0.241818], dry(2.0, 1.1, 2, 5), None),
        (5, [0, 1, 2, 3, 4, 0, 1], [0.2] * 5, dry(1.0, 1.1, 4, 7), None),
    ],
)
def test_as_llama_cpp(
    n: int, token_ids: list[int], expected: list[float], params: SamplingParams, breaker: int | None
) -> None:
    breakers = NO_BREAKERS if breaker is None else Breakers({breaker: frozenset([()])}, n)
    logits = np.zeros(n, np.float32)
    for token_id, amount in penalties(params, token_ids, breakers).items():
        logits[token_id] -= amount
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)


def test_the_penalty_grows_with_the_repeat() -> None:
    for n in range(2, 5):
        text = [*range(n), 4, *range(n)]
        assert penalties(dry(0.8), text)[4] == pytest.approx(0.8 * 1.75 ** (n - 2))


def test_a_breaker_ends_a_repeat_and_is_never_penalized() -> None:
    whole = Breakers({2: frozenset([()])}, N_VOCAB)
    text = [0, 1, 2, 3, 0, 1]
    assert penalties(dry(1), text) == {2: 1.0}
    assert penalties(dry(1), text, whole) == {}
    longer = [0, 1, 3, 4, 0, 1]
    assert penalties(dry(1), longer, whole) == {3: 1.0}
    assert penalties(dry(1), [2, *longer[:4], 0, 2, 1], whole) == {}
    in_two = Breakers({0: frozenset([(2,)])}, N_VOCAB)  # only 0 and 2 together break
    assert penalties(dry(1), [0, 1, 3, 0, 1], in_two) == {3: 1.0}
    assert penalties(dry(1, allowed=1), [1, 3, 0, 2, 1], in_two) == {3: 1.0}
    assert penalties(dry(1, allowed=2), [2, 1, 3, 0, 2, 1], in_two) == {}


def test_long_repeats_do_not_overflow() -> None:
    assert math.isfinite(penalties(dry(1), [0, 1] * 2000)[0])
    assert penalties(dry(2, base=1), [0, 1] * 2000)[0] == 2
    assert 1e37 < penalties(dry(100, base=100), [0, 1] * 2000)[0] < math.inf


def slow_lengths(token_ids: list[int]) -> list[int]:
    def length(lag: int) -> int:
        pairs = zip(reversed(token_ids), reversed(token_ids[:-lag]), strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), len(token_ids) - lag)

    return [0, *(length(lag) for lag in range(1, len(token_ids)))][: len(token_ids)]


def slow_penalties(params: SamplingParams, token_ids: list[int]) -> dict[int, float]:
    window = token_ids if params.dry_penalty_last_n < 0 else token_ids[-params.dry_penalty_last_n :]
    longest: dict[int, int] = {}
    for lag, length in enumerate(slow_lengths(window)):
        if lag and length >= params.dry_allowed_length and len(window) > params.dry_allowed_length:
            following = window[len(window) - lag]
            longest[following] = max(longest.get(following, 0), length)
    allowed = params.dry_allowed_length
    return {i: params.dry_multiplier * params.dry_base ** (n - allowed) for i, n in longest.items()}


texts = st.lists(st.integers(0, 2), max_size=40)


@given(texts)
def test_lengths_are_those_of_a_search(token_ids: list[int]) -> None:
    assert repeat_lengths(token_ids) == slow_lengths(token_ids)


@given(texts, texts, st.integers(0, 4), st.sampled_from([-1, 1, 3, 10, 100]))
def test_token_by_token_or_at_once_the_penalties_are_those_of_a_search(
    prompt: list[int], answer: list[int], allowed: int, last_n: int
) -> None:
    params = dry(0.5, 1.5, allowed, last_n)
    grown = Repeats(params, NO_BREAKERS, prompt)
    for token_id in answer:
        grown.append(token_id)
    found: Any = dict(zip(*(array.tolist() for array in grown.penalties()), strict=True))
    assert found == penalties(params, prompt + answer)
    assert found == pytest.approx(slow_penalties(params, prompt + answer), rel=1e-6)
