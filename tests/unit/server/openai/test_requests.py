"""What a body asks of the engine."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.server.limits import capacity_faults
from llorch.server.routes.openai.requests import keywords_of_choices, sampling_params
from llorch.settings import Settings


def params(**given: Any) -> SamplingParams:
    return sampling_params(given, Settings())


def keywords(given: dict[str, Any], prompts: int = 1, owner: str = "") -> list[dict[str, Any]]:
    app = create_app(EngineService(Settings()))
    request = Request({"type": "http", "app": app, "llorch.owner": owner})
    asked = [{"prompt": str(i)} for i in range(prompts)]
    return keywords_of_choices(request, given, asked, "id", max_tokens=-1, n_logprobs=2)


def test_defaults_are_those_of_openai_where_the_operator_set_none() -> None:
    chosen = params()
    assert (chosen.temperature, chosen.top_p, chosen.penalty_last_n) == (1.0, 1.0, -1)
    assert (chosen.top_k, chosen.min_p) == (40, 0.05)  # OpenAI has no such fields


def test_what_the_operator_set_comes_before_the_defaults_of_openai() -> None:
    settings = Settings(temperature=0.3, penalty_last_n=64)
    assert sampling_params({}, settings).temperature == 0.3
    assert sampling_params({}, settings).penalty_last_n == 64
    assert sampling_params({}, settings).top_p == 1.0
    assert sampling_params({"temperature": 0.9}, settings).temperature == 0.9


def test_penalties_see_generated_tokens_only() -> None:
    assert not params(presence_penalty=1.0).penalize_prompt


def test_llama_servers_names_are_understood_behind_ones_own() -> None:
    assert params(repeat_penalty=1.1, repeat_last_n=7).repetition_penalty == 1.1
    assert params(repeat_penalty=1.1, repeat_last_n=7).penalty_last_n == 7
    assert params(repeat_penalty=1.1, repetition_penalty=1.2).repetition_penalty == 1.2


def test_minus_one_is_every_token_and_any_seed() -> None:
    assert params(top_k=-1).top_k == 0
    assert params(seed=-1).seed is None
    assert params(seed=-2).seed == 2**64 - 2
    assert params(seed=7).seed == 7


def test_biases_are_by_id() -> None:
    assert params(logit_bias={"7": -100, "0": 1.5}).logit_bias == {7: -100, 0: 1.5}


def test_choices_of_a_prompt_stand_side_by_side_and_have_seeds_of_their_own() -> None:
    asked = keywords({"n": 3, "seed": 2**64 - 1}, prompts=2)
    assert [one["prompt"] for one in asked] == ["0", "0", "0", "1", "1", "1"]
    assert [one["params"].seed for one in asked] == [2**64 - 1, 0, 1] * 2
    assert [one["job_id"] for one in asked] == [f"id.{k}" for k in range(6)]
    assert [one["params"].seed for one in keywords({"n": 2})] == [None, None]


def test_one_choice_can_be_cancelled_by_the_answers_id() -> None:
    assert [one["job_id"] for one in keywords({})] == ["id"]


def test_options_of_the_engine_are_passed_on() -> None:
    (asked,) = keywords({"cache_prompt": False, "return_progress": True, "stream": True}, owner="me")
    assert asked["options"] == {
        "owner": "me",
        "cache_prompt": False,
        "hashes_logits": False,
        "min_tokens": 0,
        "stop_token_ids": (),
        "wants_progress": True,
        "n_logprobs": 2,
    }
    assert asked["max_tokens"] > 2**30
    (asked,) = keywords({"return_progress": True})  # there is nowhere to say it
    assert asked["options"]["wants_progress"] is False


@pytest.mark.parametrize(("n_choices", "is_refused"), [(68, False), (69, True)])
def test_more_choices_than_there_are_places_are_refused_for_good(n_choices: int, is_refused: bool) -> None:
    assert bool(capacity_faults(1, n_choices, Settings(parallel=4, max_waiting=64))) is is_refused
