"""Steps in any order: what the usual order chooses is what the compiled steps choose, and an order has an effect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from llorch.engine.chain import Chain
from llorch.engine.dry import Breakers
from llorch.engine.params import SamplingParams
from llorch.engine.sampling import Sampler, uniform
from llorch.errors import NumericalError, RequestError
from llorch.fields.sampling_table import STEPS

ROWS = [(np.random.default_rng(i).standard_normal(400) * 3).astype(np.float32) for i in range(30)]


def chosen(rows: list[np.ndarray], prompt: Sequence[int] = (1, 2, 1), /, **fields: Any) -> list[int]:
    sampler = Sampler(SamplingParams(**fields), 3, prompt, breakers=Breakers({}, len(rows[0])))
    return [sampler.sample(row) for row in rows]


def of_chain(rows: list[np.ndarray], **fields: Any) -> list[int]:
    params, random = SamplingParams(**fields), np.random.PCG64(3)
    recent = [1, 2, 1]
    chain = Chain(params, lambda: recent[-params.penalty_last_n :], None, lambda: uniform(random))
    token_ids = []
    for row in rows:
        token_ids.append(chain.choose(row))
        recent.append(token_ids[-1])
    return token_ids


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.0},
        {"top_k": 0, "top_p": 0.7},
        {"presence_penalty": 2.0, "repetition_penalty": 1.5, "frequency_penalty": 0.5},
        {"min_p": 0.3, "temperature": 1.9},
    ],
)
def test_in_the_usual_order_the_chain_chooses_what_compiled_steps_choose(fields: dict[str, Any]) -> None:
    assert of_chain(ROWS, **fields) == chosen(ROWS, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.0},
        {"presence_penalty": 2.0, "logit_bias": {5: 100.0, 7: -math.inf}, "dry_multiplier": 2.0},
        {"mirostat": 2, "mirostat_tau": 3.0},
        {"adaptive_target": 0.2},
        {"xtc_probability": 0.5, "samplers": ("top_k", "xtc", "temperature")},
    ],
)
def test_a_sampler_that_keeps_candidates_chooses_the_same_tokens_and_each_was_one_of_them(
    fields: dict[str, Any],
) -> None:
    breakers = Breakers({}, len(ROWS[0]))
    sampler = Sampler(SamplingParams(**fields), 3, (1, 2, 1), breakers=breakers, keeps_candidates=True)
    token_ids = []
    for row in ROWS:
        token_ids.append(sampler.sample(row))
        assert sampler.left is not None
        assert token_ids[-1] in sampler.left.token_ids
    assert token_ids == chosen(ROWS, **fields)


def test_the_order_has_an_effect() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    early: dict[str, Any] = {"samplers": ("temperature", "top_p"), "temperature": 2.0, "top_p": 0.8}
    late: dict[str, Any] = {**early, "samplers": ("top_p", "temperature")}
    assert set(chosen([row] * 200, **early)) == {0, 1, 2}
    assert set(chosen([row] * 200, **late)) == {0, 1}


def test_what_the_order_does_not_name_is_left_out() -> None:
    without: dict[str, Any] = {
        "samplers": ("min_p", "temperature"),
        "presence_penalty": 2.0,
        "dry_multiplier": 5.0,
        "top_k": 1,
    }
    explicit: dict[str, Any] = {"penalty_last_n": 0, "top_k": 0, "top_p": 1.0}
    assert chosen(ROWS, **without) == chosen(ROWS, **explicit)
    assert chosen(ROWS, samplers=(), temperature=0.0) == chosen(
        ROWS, penalty_last_n=0, top_k=0, top_p=1.0, min_p=0.0, temperature=1.0
    )


def test_penalties_may_come_after_other_steps() -> None:
    row = np.array([3, 2.9, 0, 0], np.float32)
    fields: dict[str, Any] = {"temperature": 0.0, "presence_penalty": 2.0}
    assert chosen([row] * 2, [0], **fields, samplers=("top_k", "penalties", "temperature"), top_k=1) == [0, 0]
    assert chosen([row] * 2, [0], **fields, samplers=("top_k", "penalties", "temperature"), top_k=2) == [1, 0]


def test_dry_keeps_a_text_from_going_on_as_before() -> None:
    row = np.array([0, 0, 1, 0.5], np.float32)
    prompt = [0, 1, 2, 0, 1]
    for order in (STEPS, ("top_k", "dry", "temperature")):
        assert chosen([row], prompt, temperature=0.0, dry_multiplier=2.0, samplers=order) == [3]
        assert chosen([row], prompt, temperature=0.0, dry_multiplier=0.0, samplers=order) == [2]
    outside: dict[str, Any] = {"penalize_prompt": False}  # which is about penalties
    assert chosen([row], prompt, temperature=0.0, dry_multiplier=2.0, **outside) == [3]
    assert row.tolist() == [0, 0, 1, 0.5]


def test_xtc_has_an_effect_without_a_temperature() -> None:
    row = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    assert chosen([row] * 3, temperature=0.0, xtc_probability=1.0, xtc_threshold=0.15) == [2, 2, 2]


def test_mirostat_takes_the_place_of_the_other_steps() -> None:
    fields: dict[str, Any] = {"mirostat": 2, "mirostat_tau": 3.0}
    others: dict[str, Any] = {
        "top_k": 1,
        "presence_penalty": 2.0,
        "dry_multiplier": 1.0,
        "dynatemp_range": 1.0,
        "samplers": (),
    }
    assert chosen(ROWS, **fields) == chosen(ROWS, **fields, **others)
    assert chosen(ROWS, **fields, temperature=0.0) == [int(row.argmax()) for row in ROWS]


def test_a_seed_decides_rare_steps_too() -> None:
    every: list[dict[str, Any]] = [
        {"xtc_probability": 0.5},
        {"mirostat": 1},
        {"typical_p": 0.5},
        {"dynatemp_range": 0.5},
    ]
    for fields in every:
        assert chosen(ROWS, **fields) == chosen(ROWS, **fields)


@pytest.mark.parametrize(
    "fields", [{"mirostat": 2}, {"typical_p": 0.5}, {"samplers": ("temperature", "top_k")}]
)
def test_no_number_is_an_error_before_anything_is_drawn(fields: dict[str, Any]) -> None:
    sampler = Sampler(SamplingParams(**fields), 3, [])
    row = ROWS[0].copy()
    row[7] = np.nan
    with pytest.raises(NumericalError):
        sampler.sample(row)
    assert [sampler.sample(row) for row in ROWS] == chosen(ROWS, [1], **fields)


def test_forbidden_tokens_may_come_after_min_tokens() -> None:
    row = np.array([0, 3, 2], np.float32)
    every: list[dict[str, Any]] = [{"temperature": 0.0}, {"typical_p": 0.99, "temperature": 0.0}]
    for fields in every:
        sampler = Sampler(SamplingParams(**fields), 0, [], {1}, min_tokens=2)
        assert [sampler.sample(row) for _ in range(4)] == [2, 2, 1, 1]
    biased = Sampler(SamplingParams(temperature=0, logit_bias={1: -math.inf}), 0, [], {1}, min_tokens=1)
    assert [biased.sample(row) for _ in range(3)] == [2, 2, 2]
    assert Sampler(SamplingParams(temperature=0), 0, [], {1}, min_tokens=0).sample(row) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"samplers": ("top_k", "top_k")},
        {"samplers": ("nonsense",)},
        {"samplers": 3},
        {"mirostat": 3},
        {"dry_base": 0.5},
        {"dry_sequence_breakers": ("",)},
        {"xtc_probability": 1.5},
        {"typical_p": math.nan},
    ],
)
def test_wrong_parameters_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(fields))):
        SamplingParams(**fields)


def test_lists_of_python_callers_become_tuples() -> None:
    params = SamplingParams(samplers=["top_k", "temperature"], dry_sequence_breakers="\n")  # type: ignore[arg-type]
    assert params.samplers == ("top_k", "temperature")
    assert params.dry_sequence_breakers == ("\n",)
