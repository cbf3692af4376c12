"""What `POST /generate` takes, and how it refuses the rest."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from llorch.errors import FieldError, RequestError
from llorch.server.routes.generate import parse_cancel, parse_generate


def faults(**body: Any) -> list[FieldError]:
    with pytest.raises(RequestError) as caught:
        parse_generate(body, 100)
    return caught.value.errors


def fields(**body: Any) -> list[str]:
    return [fault.field for fault in faults(**body)]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a"},
        {"token_ids": [0, 2**31 - 1]},
        {"prompt": "a" * 100, "temperature": 0, "top_k": 0, "top_p": 0, "min_p": 1, "repetition_penalty": 2},
        {"prompt": "🦙" * 100, "temperature": 2, "top_p": 1.0, "min_p": 0, "repetition_penalty": 1e-9},
        {
            "prompt": "a",
            "stop": ["x" * 100] * 16,
            "seed": 2**64 - 1,
            "stream": False,
            "job_id": "A-z_0.9:" * 8,
        },
        {"prompt": "a", "stop": None, "seed": None, "temperature": None},
        {
            "prompt": "a",
            "logit_bias": {"0": -100, "17": 100.0},
            "presence_penalty": -2,
            "frequency_penalty": 2,
            "penalty_last_n": -1,
        },
    ],
)
def test_values_at_the_edges_are_taken(body: dict[str, Any]) -> None:
    parse_generate(body, 100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""), ("prompt", "a" * 101), ("prompt", 5), ("prompt", ["a"]), ("prompt", "\udfff"),
        ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", "5"), ("max_tokens", True),
        ("temperature", -0.01), ("temperature", 2.01), ("temperature", "hot"), ("temperature", False),
        ("temperature", math.nan), ("temperature", math.inf), ("temperature", 10**400),
        ("top_k", -1), ("top_k", 2**31), ("top_p", -0.1), ("top_p", 1.1), ("min_p", 1.1), ("min_p", math.nan),
        ("repetition_penalty", 0), ("repetition_penalty", 2.1), ("presence_penalty", 3), ("frequency_penalty", -3),
        ("penalty_last_n", -2), ("penalty_last_n", 2**31), ("penalty_last_n", 1.5),
        ("stop", ["a"] * 17), ("stop", 5), ("stop", {"a": 1}),
        ("seed", -1), ("seed", 2**64), ("seed", "1"), ("stream", 1), ("stream", "true"), ("ignore_eos", 0),
        ("job_id", ""), ("job_id", "a" * 65), ("job_id", "a b"), ("job_id", "a\n"), ("job_id", 5),
        ("logit_bias", {"x": 1}), ("logit_bias", {"-1": 1}), ("logit_bias", {"1": 101}), ("logit_bias", [1]),
        ("logit_bias", {"1": math.inf}), ("logit_bias", {"\ud800": 1}), ("logit_bias", {"²": 1}),
        ("logit_bias", {str(i): 0 for i in range(1025)}),
    ],
)  # fmt: skip
def test_value_out_of_range_names_its_field(field: str, value: object) -> None:
    assert set(fields(**{"prompt": "a", field: value})) == {field}


@pytest.mark.parametrize("stops", [[""], ["ok", "x" * 101], ["ok", 5], ["ok", "\ud800"]])
def test_bad_stop_string_is_named_by_its_index(stops: list[object]) -> None:
    assert fields(prompt="a", stop=stops) == [f"stop[{len(stops) - 1}]"]


@pytest.mark.parametrize("ids", [[], [-1], [2**31], ["1"], [1.0], [True], [None], 5, "text"])
def test_bad_token_ids_are_refused(ids: object) -> None:
    assert fields(token_ids=ids) == ["token_ids"]


def test_exactly_one_of_prompt_and_token_ids() -> None:
    for body in ({}, {"prompt": None}, {"prompt": "a", "token_ids": [1]}):
        (fault,) = faults(**body)
        assert (fault.field, fault.constraint) == ("prompt", "exactly one of prompt and token_ids")


def test_single_stop_string_needs_no_brackets() -> None:
    assert parse_generate({"prompt": "a", "stop": "\n"}, 100)["stop"] == ["\n"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"), ("maxTokens", "max_tokens"), ("max-tokens", "max_tokens"),
        ("n_predict", "max_tokens"), ("max_new_tokens", "max_tokens"), ("inputs", "prompt"),
        ("repeat_penalty", "repetition_penalty"), ("stops", "stop"),
    ],
)  # fmt: skip
def test_unknown_field_suggests_the_one_that_was_meant(name: str, meant: str) -> None:
    (fault,) = faults(prompt="a", **{name: 1})
    assert fault.field == name
    assert f"did you mean {meant}?" in fault.message


def test_unknown_field_like_nothing_suggests_nothing() -> None:
    (fault,) = faults(prompt="a", zzz=1)
    assert fault.message == "zzz is not a field of this request"


def test_every_fault_is_reported_and_no_text_repeated() -> None:
    found = faults(
        prompt=["my secret"],
        temperature="my secret",
        stop=["my secret" * 20],
        job_id="my secret",
        top_k=-5,
        nope=1,
    )
    assert {fault.field for fault in found} == {"prompt", "temperature", "stop[0]", "job_id", "top_k", "nope"}
    assert not any("secret" in f"{fault.field} {fault.constraint} {fault.message}" for fault in found)
    assert "-5" in next(fault.message for fault in found if fault.field == "top_k")


@pytest.mark.parametrize(
    "body",
    [
        {"token_ids": ["a"] * 300_000},
        {"prompt": "a", "stop": [""] * 300_000},
        {"prompt": "a", "logit_bias": {str(i): "x" for i in range(100_000)}},
        {"prompt": "a", **{f"promp{i}": 1 for i in range(100_000)}},
    ],
    ids=["token_ids", "stop", "logit_bias", "unknown"],
)
def test_a_flood_of_faults_costs_little_and_answers_briefly(body: dict[str, Any]) -> None:
    began = time.process_time()
    found = faults(**body)
    assert time.process_time() - began < 1.0
    assert len(found) <= 21


def test_cancel_wants_a_job_id_and_nothing_else() -> None:
    assert parse_cancel({"job_id": "a"}) == {"job_id": "a"}
    with pytest.raises(RequestError) as caught:
        parse_cancel({"job": "a"})
    assert {fault.field for fault in caught.value.errors} == {"job", "job_id"}
