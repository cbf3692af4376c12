"""Sampling at the ends of its ranges: accepted parameters give a token, and NumPy has nothing to warn of."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.engine.params import GREEDY_BELOW, SamplingParams
from llorch.engine.sampling import Sampler
from llorch.errors import NumericalError, RequestError
from llorch.fields.table import FIELDS

LARGEST = float(np.finfo(np.float32).max)
TINY = [5e-324, 1e-308, 1e-45, 1.2e-45, 1e-38, 1e-7, GREEDY_BELOW, 1.1e-6]
NEAR_ONE = [1 - 1e-16, 1 - 1e-8, 1.0]
N_VOCAB = 12


def values_of(name: str, *extremes: float) -> st.SearchStrategy[float]:
    """The whole range of a number of the table, its ends and the given values more often."""
    limits = FIELDS[name].kind.limits
    low = limits.get("ge", limits.get("gt"))
    ends = [value for value in (low, limits["le"]) if "ge" in limits or value != low]
    inside = st.floats(low, limits["le"], exclude_min="gt" in limits)
    return st.one_of(st.sampled_from([*ends, *extremes]), inside)


logit = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-45, 1.0, -1.0, 1e4, -1e4, LARGEST, -LARGEST, LARGEST / 2, -math.inf]),
    st.floats(-50, 50, width=32),
    st.floats(-LARGEST, LARGEST, width=32),
)
logits_rows = st.lists(st.lists(logit, min_size=N_VOCAB, max_size=N_VOCAB), min_size=1, max_size=4)
parameters = st.fixed_dictionaries(
    {
        "temperature": values_of("temperature", *TINY),
        "top_k": st.sampled_from([0, 1, 2, N_VOCAB, 2**31 - 1]),
        "top_p": values_of("top_p", *TINY, *NEAR_ONE),
        "min_p": values_of("min_p", *TINY, *NEAR_ONE),
        "repetition_penalty": values_of("repetition_penalty", *TINY),
        "presence_penalty": values_of("presence_penalty", *TINY),
        "frequency_penalty": values_of("frequency_penalty", *TINY),
        "penalty_last_n": st.sampled_from([-1, 0, 1, 3, 2**31 - 1]),
        "logit_bias": st.dictionaries(
            st.integers(0, N_VOCAB - 1),
            st.sampled_from([-math.inf, -100.0, 100.0, 1e-45, 0.0]),
            max_size=N_VOCAB,
        ),
        "seed": st.sampled_from([0, 1, 2**64 - 1]),
    }
)


@settings(max_examples=400)
@given(parameters, logits_rows, st.lists(st.integers(0, N_VOCAB - 1), max_size=30))
def test_any_accepted_parameters_give_a_token_that_is_not_forbidden(
    given_params: dict[str, Any], rows: list[list[float]], prompt_ids: list[int]
) -> None:
    params = SamplingParams(**given_params)
    sampler = Sampler(params, params.seed or 0, prompt_ids)
    forbidden = {token_id for token_id, bias in params.logit_bias.items() if bias == -math.inf}
    for row in rows:
        possible = {i for i, value in enumerate(row) if value > -math.inf} - forbidden
        with np.errstate(all="raise"):  # also in programs that want to hear of everything
            if possible:
                assert sampler.sample(np.array(row, np.float32)) in possible
            else:
                with pytest.raises(NumericalError, match="every token is forbidden"):
                    sampler.sample(np.array(row, np.float32))


@pytest.mark.parametrize("penalty", [5e-324, 1e-45, 1e-38, 1e-30])
@pytest.mark.parametrize("temperature", [0, 1e-6, 0.8, 2])
def test_a_tiny_repetition_penalty_makes_a_recent_likely_token_certain(
    penalty: float, temperature: float
) -> None:
    params = SamplingParams(temperature=temperature, repetition_penalty=penalty)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = np.array([0.0, 30.0, 20.0, -5.0], np.float32)
        assert Sampler(params, 1, [0, 2, 3]).sample(row) == 2


def test_recent_tokens_that_all_overflow_are_equal_and_the_smallest_id_wins() -> None:
    params = SamplingParams(temperature=0, repetition_penalty=1e-45)
    assert Sampler(params, 1, [2, 1]).sample(np.array([50, 20, 30, 0], np.float32)) == 1


def test_a_model_that_computes_infinities_is_still_told_from_an_overflow() -> None:
    params = SamplingParams(repetition_penalty=1e-45, frequency_penalty=2)
    for bad in (math.inf, math.nan):
        with pytest.raises(NumericalError, match="the largest logit is"):
            Sampler(params, 1, [0]).sample(np.array([bad, 1], np.float32))


def test_huge_logits_at_the_smallest_temperature_keep_their_order() -> None:
    params = SamplingParams(temperature=GREEDY_BELOW, top_k=0, top_p=1, min_p=0)
    for row in ([3e38, 3.1e38, -3e38], [-3.1e38, -3e38, -3.2e38]):
        assert {Sampler(params, seed, []).sample(np.array(row, np.float32)) for seed in range(20)} == {1}


def test_a_long_history_of_one_token_counts_whole() -> None:
    params = SamplingParams(temperature=0, frequency_penalty=-2, penalty_last_n=-1)
    assert Sampler(params, 1, [3] * 65536).sample(np.array([1e5, 0, 0, 0], np.float32)) == 3
    with pytest.raises(RequestError, match="frequency_penalty"):
        SamplingParams(frequency_penalty=-2.1)
