"""What OpenAI's routes take, and how they refuse the rest."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llorch.errors import FieldError, RequestError
from llorch.server.routes.openai.chat import parse_chat
from llorch.server.routes.openai.completions import parse_completion
from llorch.server.routes.openai.fields import CHAT, COMPLETION

MESSAGES = [{"role": "user", "content": "Hi"}]
COMMON_FAULTS: list[tuple[str, object]] = [
    ("model", 5), ("temperature", 2.1), ("temperature", "1"), ("temperature", math.inf), ("top_p", -0.1),
    ("top_k", -2), ("top_k", 1.5), ("min_p", 2), ("repetition_penalty", 0), ("repeat_penalty", 3),
    ("presence_penalty", -2.1), ("frequency_penalty", True), ("penalty_last_n", -2), ("repeat_last_n", "64"),
    ("logit_bias", {"word": 1}), ("logit_bias", {"5": 101}), ("logit_bias", []), ("stop", [""]), ("stop", ["a"] * 17),
    ("stop", 5), ("seed", 2**64), ("seed", -(2**63) - 1), ("seed", 1.0), ("n", 0), ("n", 65), ("n", True),
    ("stream", "true"), ("stream", 1), ("stream_options", True), ("stream_options", {"include_usage": 1}),
    ("ignore_eos", 1), ("cache_prompt", "yes"), ("return_token_ids", 0), ("return_progress", "no"),
    ("max_tokens", -2), ("max_tokens", 2**31), ("max_tokens", 1.5), ("max_tokens", "5"),
    ("min_tokens", -1), ("stop_token_ids", [-1]), ("stop_token_ids", 5), ("stop_token_ids", ["1"]),
    ("stop_token_ids", [0] * 129), ("typical_p", 1.5), ("adaptive_target", 1.1), ("adaptive_decay", 1),
    ("min_tokens", 1.5),
    ("mirostat", True), ("mirostat", 3), ("dry_multiplier", -1), ("samplers", ["top_k", "top_k"]), ("samplers", "kt"),
    ("dry_sequence_breakers", [""]), ("xtc_threshold", "0.1"), ("dynatemp_range", 3), ("top_n_sigma", -2),
    ("grammar", 5), ("guided_regex", 5), ("guided_regex", "x" * 4001), ("guided_json", 5),
    ("guided_json", "{"), ("guided_choice", "a"), ("guided_choice", ["a", 5]), ("guided_grammar", ["a"]),
    ("structured_outputs", 5), ("guided_whitespace_pattern", " *"), ("grammar_lazy", True),
]  # fmt: skip


def completion(**body: Any) -> dict[str, Any]:
    return parse_completion({"prompt": "a", **body}, 100)


def chat(**body: Any) -> dict[str, Any]:
    return parse_chat({"messages": MESSAGES, **body}, 100)


def faults(parse: Any, **body: Any) -> list[FieldError]:
    with pytest.raises(RequestError) as caught:
        parse(**body)
    return caught.value.errors


def names(parse: Any, **body: Any) -> set[str]:
    return {fault.field for fault in faults(parse, **body)}


def test_null_is_as_if_the_field_were_not_given() -> None:
    assert completion(**dict.fromkeys([*COMPLETION, "suffix", "best_of", "user"]) | {"prompt": "a"}) == {
        "prompt": "a"
    }
    assert chat(**dict.fromkeys([*CHAT, "tools", "response_format", "audio", "store"])) == {
        "messages": MESSAGES
    }


@pytest.mark.parametrize(("name", "value"), COMMON_FAULTS)
def test_value_out_of_range_names_its_field_on_both_routes(name: str, value: object) -> None:
    for parse in (completion, chat):
        assert names(parse, **{name: value}) in ({name}, {f"{name}[0]"})


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0, "n": 64, "seed": -(2**63), "max_tokens": -1},
        {"temperature": 2, "top_k": 0, "seed": 2**64 - 1, "stop": ["x" * 100] * 16, "max_tokens": 2**31 - 1},
        {
            "mirostat": 2,
            "dry_sequence_breakers": [],
            "samplers": [],
            "min_tokens": 0,
            "dry_penalty_last_n": -1,
        },
        {"samplers": ["temperature", "penalties"], "xtc_probability": 1, "typical_p": 0, "dry_base": 1},
        {"stop_token_ids": [0, 2**31 - 1] * 64, "adaptive_target": -1, "adaptive_decay": 0.99},
        {"stop": "one", "stream": True, "stream_options": {}, "logit_bias": {"0": -100, "7": 100}},
        {
            "stop": [],
            "stream_options": {"include_usage": None, "include_obfuscation": False},
            "logit_bias": {},
        },
    ],
)
def test_values_at_the_edges_are_taken(fields: dict[str, Any]) -> None:
    assert completion(**fields) == {"prompt": "a", **fields}
    assert chat(**fields) == {"messages": MESSAGES, **fields}


def test_fields_that_change_nothing_are_taken_whatever_they_say() -> None:
    extra = {
        "user": 5,
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "x": [],
    }
    assert completion(**extra) == {"prompt": "a"}
    assert chat(**extra, reasoning_effort="low") == {"messages": MESSAGES}


def test_fields_that_would_change_the_answer_are_taken_only_without_effect() -> None:
    completion(best_of=1, suffix="", stop_token_ids=[])
    completion(n=3, best_of=3)
    assert names(completion, best_of=2, suffix="x") == {"best_of", "suffix"}
    assert names(completion, n=3, best_of=1) == {"best_of"}
    chat(modalities=["text"], functions=[])
    assert names(chat, audio={"voice": "a"}, modalities=["text", "audio"], prediction={}, functions=[{}]) == {
        "audio", "modalities", "prediction", "functions",
    }  # fmt: skip


def test_all_faults_are_told_at_once() -> None:
    assert names(completion, prompt=[], temperature=9, n=0, suffix="x", logprobs=21, max_tokens=0) == {
        "prompt", "temperature", "n", "suffix", "logprobs", "max_tokens",
    }  # fmt: skip
    assert names(chat, messages=None, temperature=9, top_logprobs=5) == {
        "messages",
        "temperature",
        "top_logprobs",
    }


@pytest.mark.parametrize(
    "prompt",
    ["a", "a" * 100, ["a", "b"], [0, 2**31 - 1], [[1], [2, 3]], ["a", [1]], ["a"] * 64],
)
def test_prompts_come_in_four_spellings(prompt: object) -> None:
    assert completion(prompt=prompt) == {"prompt": prompt}


@pytest.mark.parametrize(
    "prompt",
    [
        "", [], [""], ["a", ""], [[]], [[1], []], [1, "a"], ["a", 1], [True], [1.0], [-1], [2**31], [[2**31]], [[True]],
        {}, 5, True, [None], [[[1]]], "\ud800", ["\ud800"], ["a"] * 65, "a" * 101, ["a" * 101, "b"],
    ],
)  # fmt: skip
def test_other_prompts_are_refused_without_being_told_again(prompt: object) -> None:
    (fault,) = faults(completion, prompt=prompt)
    assert fault.field == "prompt"
    assert "aa" not in fault.message


def test_no_tokens_need_an_echo() -> None:
    completion(max_tokens=0, echo=True)
    assert names(completion, max_tokens=0) == names(completion, max_tokens=0, echo=False) == {"max_tokens"}
    assert names(chat, max_tokens=0, max_completion_tokens=0) == {"max_tokens", "max_completion_tokens"}


@pytest.mark.parametrize("logprobs", [-1, 21, True, 1.0, "1"])
def test_logprobs_of_completions_are_a_count(logprobs: object) -> None:
    completion(logprobs=0)
    completion(logprobs=20)
    assert names(completion, logprobs=logprobs) == {"logprobs"}


def test_logprobs_of_chats_are_a_switch_and_a_count() -> None:
    chat(logprobs=True, top_logprobs=20)
    chat(logprobs=False, top_logprobs=0)
    assert names(chat, logprobs=1) == {"logprobs"}
    assert names(chat, logprobs=True, top_logprobs=21) == {"top_logprobs"}
    assert names(chat, top_logprobs=1) == names(chat, logprobs=False, top_logprobs=1) == {"top_logprobs"}
