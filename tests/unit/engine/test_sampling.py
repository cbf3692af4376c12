"""Sampling steps on hand-computed vectors; some are llama.cpp's own (`tests/test-sampling.cpp`)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llorch.engine.narrowing import Candidates, draw, min_p, scale_temperature, softmax, top_k, top_p
from llorch.engine.params import SamplingParams
from llorch.engine.penalties import apply_penalties
from llorch.engine.sampling import Sampler, uniform
from llorch.errors import NumericalError, RequestError

TOLERANCE = 1e-5
"""llama.cpp's own in these tests."""


def logits_of(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities, np.float32))


def of(*probabilities: float) -> Candidates:
    return Candidates.from_logits(logits_of(*probabilities))


def ids(candidates: Candidates) -> list[int]:
    return candidates.token_ids.tolist()


# llama.cpp's vectors: which of the probabilities .1 .2 .3 .4 stay, renormalised.


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [1.0]), (3, [0.22222, 0.33333, 0.44444]), (4, [0.1, 0.2, 0.3, 0.4]), (0, [0.1, 0.2, 0.3, 0.4])],
)
def test_top_k_as_llama_cpp(k: int, expected: list[float]) -> None:
    kept = top_k(of(0.1, 0.2, 0.3, 0.4), k)
    np.testing.assert_allclose(softmax(kept.logits), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, [1.0]),
        (0.7, [0.428571, 0.571429]),
        (0.8, [0.22222, 0.33333, 0.44444]),
        (1.0, [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_top_p_as_llama_cpp(p: float, expected: list[float]) -> None:
    kept = top_p(of(0.1, 0.2, 0.3, 0.4), p)
    np.testing.assert_allclose(softmax(kept.logits), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.00, [0.1, 0.2, 0.3, 0.4]),
        (0.24, [0.1, 0.2, 0.3, 0.4]),
        (0.26, [0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        (0.49, [0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
        (0.51, [0.3 / 0.7, 0.4 / 0.7]),
        (0.74, [0.3 / 0.7, 0.4 / 0.7]),
        (0.76, [1.0]),
        (1.00, [1.0]),
    ],
)
def test_min_p_as_llama_cpp(p: float, expected: list[float]) -> None:
    kept = min_p(of(0.1, 0.2, 0.3, 0.4), p)
    np.testing.assert_allclose(softmax(kept.logits), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("recent", "expected", "repetition", "frequency", "presence"),
    [
        ([0], [0, 0.25, 0.25, 0.25, 0.25], 50.0, 0.0, 0.0),
        ([0, 1, 2], [0, 0, 0, 0.5, 0.5], 50.0, 0.0, 0.0),
        ([0, 1, 2, 0, 0], [0, 0, 0, 0.5, 0.5], 50.0, 0.0, 0.0),
        ([0], [0.000011, 0.249997, 0.249997, 0.249997, 0.249997], 1.0, 5.0, 5.0),
        ([0, 1, 2], [0.000023, 0.000023, 0.000023, 0.499966, 0.499966], 1.0, 5.0, 5.0),
        ([0, 1, 2, 0, 0], [0.0, 0.000023, 0.000023, 0.499977, 0.499977], 1.0, 5.0, 5.0),
    ],
)
def test_penalties_as_llama_cpp(
    recent: list[int], expected: list[float], repetition: float, frequency: float, presence: float
) -> None:
    logits = logits_of(0.2, 0.2, 0.2, 0.2, 0.2)
    params = SamplingParams()
    fields = {"repetition_penalty": repetition, "frequency_penalty": frequency, "presence_penalty": presence}
    for name, value in fields.items():  # llama.cpp's tests go beyond what a request may ask for
        object.__setattr__(params, name, value)
    apply_penalties(logits, recent, params)
    np.testing.assert_allclose(softmax(logits), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, [0.1, 0.2, 0.3, 0.4]), (0.5, [1 / 30, 4 / 30, 9 / 30, 16 / 30])]
)
def test_temperature_sharpens(temperature: float, expected: list[float]) -> None:
    scaled = scale_temperature(of(0.1, 0.2, 0.3, 0.4), temperature)
    np.testing.assert_allclose(softmax(scaled.logits), expected, atol=TOLERANCE)


# Our own.


def test_penalties_by_hand() -> None:
    logits = np.array([2.0, -2.0, 0.0, 1.0], np.float32)
    params = SamplingParams(repetition_penalty=2, frequency_penalty=0.25, presence_penalty=0.5)
    apply_penalties(logits, [0, 0, 1, 2], params)
    # 2/2 - 2*.25 - .5; -2*2 - .25 - .5; 0*2 - .25 - .5; untouched
    assert logits.tolist() == [0.0, -4.75, -0.75, 1.0]


def test_a_repetition_penalty_below_one_favours_recent_tokens() -> None:
    logits = np.array([2.0, -2.0], np.float32)
    apply_penalties(logits, [0, 1], SamplingParams(repetition_penalty=0.5))
    assert logits.tolist() == [4.0, -1.0]


def test_logit_bias_is_added_and_minus_infinity_forbids() -> None:
    logits = np.array([1.0, 1.25, 3.0], np.float32)
    params = SamplingParams(temperature=0, logit_bias={0: 0.5, 2: -math.inf})
    assert Sampler(params, 0, []).sample(logits) == 0
    assert logits.tolist() == [1.0, 1.25, 3.0]


def test_equal_logits_keep_the_smaller_ids() -> None:
    equal = Candidates.from_logits(np.array([1, 2, 1, 2, 1, 2], np.float32))
    assert ids(top_k(equal, 1)) == [1]
    assert ids(top_k(equal, 2)) == [1, 3]
    assert ids(top_k(equal, 4)) == [0, 1, 3, 5]
    assert ids(top_p(Candidates.from_logits(np.zeros(8, np.float32)), 0.5)) == [0, 1, 2, 3]
    assert ids(min_p(equal, 1.0)) == [1, 3, 5]


def test_steps_narrow_what_an_earlier_one_left() -> None:
    candidates = top_k(of(0.05, 0.4, 0.1, 0.3, 0.15), 3)
    assert ids(candidates) == [1, 3, 4]
    candidates = top_p(candidates, 0.8)  # .4/.85 + .3/.85 = .82
    assert ids(candidates) == [1, 3]
    assert ids(min_p(candidates, 0.8)) == [1]  # .3 < .8 * .4


@pytest.mark.parametrize(
    ("point", "expected"), [(0.0, 1), (0.24, 1), (0.26, 2), (0.74, 2), (0.76, 4), (0.999999, 4)]
)
def test_draw_takes_the_token_whose_share_holds_the_point(point: float, expected: int) -> None:
    candidates = Candidates.from_logits(np.array([-np.inf, 0, math.log(2), -np.inf, 0], np.float32))
    assert draw(candidates, point) == expected


@pytest.mark.parametrize("point", [0.0, 0.5, 1 - 2**-53])
def test_a_forbidden_token_is_never_drawn(point: float) -> None:
    logits = np.array([-np.inf, -np.inf, 0.0, -np.inf], np.float32)
    assert draw(Candidates.from_logits(logits), point) == 2


def test_uniform_numbers_of_a_seed_never_change() -> None:
    random = np.random.PCG64(1)
    numbers = [uniform(random) for _ in range(3)]
    assert numbers == [0.5118216247002567, 0.9504636963259353, 0.14415961271963373]


# The chain.


def test_temperature_zero_takes_the_first_of_the_largest() -> None:
    sampler = Sampler(SamplingParams(temperature=0), 0, [])
    assert sampler.sample(np.array([1, 3, 2, 3], np.float32)) == 1


def test_greedy_still_obeys_bias_and_penalties() -> None:
    logits = np.array([1.0, 3.0, 2.9, 0.0], np.float32)
    params = SamplingParams(temperature=0, logit_bias={1: -math.inf}, repetition_penalty=1.5)
    sampler = Sampler(params, 0, [])
    assert [sampler.sample(logits) for _ in range(2)] == [2, 2]  # 2.9, then 2.9/1.5 = 1.93 > 1
    params = SamplingParams(temperature=0, presence_penalty=1.5)
    sampler = Sampler(params, 0, [])
    assert [sampler.sample(logits) for _ in range(3)] == [1, 2, 1]  # 3; 2.9; both - 1.5
    assert logits.tolist() == pytest.approx([1.0, 3.0, 2.9, 0.0])  # the model's logits are only read


def test_the_prompt_counts_as_recent_and_the_window_slides() -> None:
    logits = np.array([1.0, 1.0, 0.9, 0.0], np.float32)
    params = SamplingParams(temperature=0, presence_penalty=1.0, penalty_last_n=2)
    sampler = Sampler(params, 0, [0, 1])
    assert [sampler.sample(logits) for _ in range(3)] == [2, 0, 1]
    assert (
        Sampler(SamplingParams(temperature=0, presence_penalty=1.0, penalty_last_n=0), 0, [0]).sample(logits)
        == 0
    )
    long_ago = [0, *[3] * 100]
    everything = SamplingParams(temperature=0, presence_penalty=1.0, penalty_last_n=-1)
    assert Sampler(everything, 0, long_ago).sample(logits) == 1
    assert Sampler(SamplingParams(temperature=0, presence_penalty=1.0), 0, long_ago).sample(logits) == 0


def test_top_k_of_one_is_greedy_and_one_draw_is_made_per_token(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20, 50)).astype(np.float32)
    points: list[float] = []

    def recorded(random: np.random.PCG64) -> float:
        points.append(uniform(random))
        return points[-1]

    monkeypatch.setattr("llorch.engine.sampling.uniform", recorded)
    narrow = Sampler(SamplingParams(temperature=1, top_k=1), 7, [])
    assert [narrow.sample(row) for row in logits] == logits.argmax(axis=1).tolist()
    # After any token the generator stands at the same place, however many candidates there were.
    of_narrow, points = points, []
    wide = Sampler(SamplingParams(temperature=1), 7, [])
    for row in logits:
        wide.sample(row)
    assert len(points) == len(logits)
    assert points == of_narrow


def test_forbidden_tokens_are_not_chosen() -> None:
    sampler = Sampler(SamplingParams(temperature=0), 0, [], forbidden_ids={1})
    assert sampler.sample(np.array([0, 3, 2], np.float32)) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_nan_and_infinity_are_an_error(bad: float, temperature: float) -> None:
    logits = np.zeros(100, np.float32)
    logits[50] = bad
    with pytest.raises(NumericalError, match="token 50"):
        Sampler(SamplingParams(temperature=temperature), 0, []).sample(logits)


def test_forbidding_every_token_is_an_error() -> None:
    params = SamplingParams(logit_bias={0: -math.inf, 1: -math.inf})
    with pytest.raises(NumericalError):
        Sampler(params, 0, []).sample(np.zeros(2, np.float32))


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6, 1e-3])
def test_tiny_temperatures_are_greedy(temperature: float) -> None:
    logits = np.array([10, 30, 29, -20], np.float32)
    assert Sampler(SamplingParams(temperature=temperature, min_p=1e-300), 3, []).sample(logits) == 1


def test_draws_follow_the_probabilities() -> None:
    sampler = Sampler(SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0), 5, [])
    logits = logits_of(0.1, 0.2, 0.3, 0.4)
    n = 4000
    counts = np.bincount([sampler.sample(logits) for _ in range(n)], minlength=4)
    expected = np.array([0.1, 0.2, 0.3, 0.4]) * n
    assert (((counts - expected) ** 2) / expected).sum() < 16.3  # chi-square, 3 degrees, p = 0.001


@pytest.mark.parametrize(
    ("fields", "faulty"),
    [
        ({"temperature": -0.1}, ["temperature"]),
        ({"temperature": math.nan}, ["temperature"]),
        ({"temperature": True}, ["temperature"]),
        ({"top_k": -1, "top_p": 1.1, "min_p": -0.1}, ["top_k", "top_p", "min_p"]),
        ({"top_k": 1.5}, ["top_k"]),
        ({"repetition_penalty": 0}, ["repetition_penalty"]),
        ({"presence_penalty": math.inf, "frequency_penalty": -3}, ["presence_penalty", "frequency_penalty"]),
        ({"penalty_last_n": -2}, ["penalty_last_n"]),
        ({"logit_bias": {-1: 1.0}}, ["logit_bias"]),
        ({"logit_bias": {1: math.nan}}, ["logit_bias"]),
        ({"logit_bias": {1: math.inf}}, ["logit_bias"]),
        ({"seed": 2**64}, ["seed"]),
        ({"seed": -1}, ["seed"]),
    ],
)
def test_every_parameter_out_of_range_is_named(fields: dict[str, Any], faulty: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**fields)
    assert [fault.field for fault in caught.value.errors] == faulty


def test_penalties_count_the_prompt_or_only_what_was_generated() -> None:
    logits = np.array([0.0, 1.0, 2.0], np.float32)
    penalty = SamplingParams(temperature=0, presence_penalty=1.5)
    of_both = Sampler(penalty, 0, [2])
    of_answer = Sampler(replace(penalty, penalize_prompt=False), 0, [2])
    assert [of_both.sample(logits) for _ in range(2)] == [1, 2]
    assert [of_answer.sample(logits) for _ in range(3)] == [2, 1, 2]


def test_the_scope_of_penalties_is_a_truth_value() -> None:
    with pytest.raises(RequestError, match="penalize_prompt: expected true or false"):
        SamplingParams(penalize_prompt=1)  # type: ignore[arg-type]
