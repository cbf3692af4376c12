"""Bodies that no client of llama-server should send: each is refused in words, in its shape, and never with a 5xx."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from llorch.server.routes.llama_server.completion_fields import FIELDS_OF_COMPLETION
from tests.support.live_server import NO_TLS, WAIT_S, LiveServer
from tests.support.raw_http import exchange, request, status_of

JSON = {"Content-Type": "application/json"}
POSTED = (
    "/completion",
    "/completions",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/embedding",
    "/embeddings",
)
ASKED = ("/tokenizer_info", "/props", "/slots")

GOOD = {"prompt": "Hello", "n_predict": 1}
WRONG: dict[str, list[Any]] = {
    "n_predict": [-2, 2**31, 10**30, 1.5, "1", [1], True],
    "temperature": [2.1, "1", [], 10**400],
    "top_k": [2**31, 1.5, "1", True],
    "top_p": ["1", {}, True],
    "min_p": ["1", [0]],
    "repeat_penalty": [0, -1, 2.1, "1"],
    "presence_penalty": [-2.1, 2.1, "1"],
    "frequency_penalty": [-2.1, 2.1, "1"],
    "repeat_last_n": [-2, 2**31, 1.5],
    "seed": [-2, 2**64, 1.5, "1"],
    "stop": [1, [1], ["a"] * 17, ["x" * 101], [[]], {}],
    "ignore_eos": [1, "true"],
    "stream": [1, "true", []],
    "n_probs": [-1, 21, 1.5, "1"],
    "cache_prompt": [0, "x"],
    "return_tokens": [0, "x"],
    "return_progress": [0, "x"],
    "timings_per_token": [0, "x"],
    "response_fields": ["content", [1], ["a"] * 65],
    "n_cmpl": [0, 65, "1", 1.5],
    "receipt": [0, "x"],
    "timeout": [0, -1, 86401, "5", [1]],
    "mirostat": ["0", 1.5, True],
    "mirostat_tau": [-1, 101, "5"],
    "mirostat_eta": [-0.1, 1.1],
    "dynatemp_range": [-0.1, 2.1, "1"],
    "dynatemp_exponent": [-1, "1"],
    "typical_p": ["1", [0]],
    "tfs_z": [0.9],
    "top_n_sigma": ["1", 1001],
    "xtc_probability": ["0", {}],
    "xtc_threshold": ["0", []],
    "dry_multiplier": [-1, 101, "1"],
    "dry_base": [0.9, 101, "2"],
    "dry_allowed_length": [-1, 2**31, 1.5],
    "dry_penalty_last_n": [-2, 2**31, "1"],
    "dry_sequence_breakers": [5, [5], [""], ["a"] * 17, ["x" * 41]],
    "adaptive_target": [1.1, "0.5", []],
    "adaptive_decay": ["0.9", {}],
    "min_keep": [2, -1],
    "post_sampling_probs": [1, 0, "true"],
    "n_indent": [1],
    "t_max_predict_ms": [1],
    "lora": [[{"id": 0, "scale": 1}], {}],
    "image_data": [["x"], 5],
    "grammar": ["root ::= 'a'", "root ::= x", "root ::= [", 1, [1], "x" * 70_000],
    "grammar_lazy": [True, 0],
    "json_schema": ["a", [], 1],
}


def refused(server: LiveServer, path: str, body: object) -> str:
    """The message of a 400 in llama-server's shape."""
    answer = server.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code == 400, (body, answer.text)
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (400, "invalid_request_error")
    return str(error["message"])


def test_the_table_above_has_every_field() -> None:
    assert set(WRONG) == set(FIELDS_OF_COMPLETION)


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_a_wrong_type_or_past_its_limits_is_refused_by_name(server: LiveServer, name: str) -> None:
    for value in WRONG[name]:
        assert f"{name}" in refused(server, "/completion", {**GOOD, name: value})


def test_null_means_that_a_field_is_not_given(server: LiveServer) -> None:
    nulls = dict.fromkeys((*FIELDS_OF_COMPLETION, "logit_bias", "samplers"))
    answer = server.post("/completion", json={**nulls, **GOOD})
    assert answer.status_code == 200, answer.text


def test_values_at_their_limits_are_taken(server: LiveServer) -> None:
    ends: list[dict[str, object]] = [
        {"temperature": 2, "top_k": 2**31 - 1, "top_p": 1, "min_p": 1, "n_probs": 20, "seed": 2**64 - 1},
        {
            "repeat_penalty": 1e-45,
            "presence_penalty": -2,
            "frequency_penalty": 2,
            "repeat_last_n": -1,
            "seed": 0,
        },
        {"stop": ["x" * 100] * 16, "response_fields": ["a"] * 64, "n_cmpl": 1, "min_keep": 1},
        {"logit_bias": [[i % 256, -100] for i in range(1024)], "samplers": []},
        {"dry_multiplier": 100, "dry_base": 100, "dry_allowed_length": 0, "dry_penalty_last_n": -1},
        {"dry_multiplier": 1, "dry_sequence_breakers": ["x" * 40] * 16, "dry_penalty_last_n": 2**31 - 1},
        {
            "n_probs": 20,
            "post_sampling_probs": True,
            "adaptive_target": 1,
            "adaptive_decay": 5,
            "samplers": "a",
        },
        {"mirostat": 7, "mirostat_tau": 0, "mirostat_eta": 1, "temperature": 2, "xtc_threshold": -1},
        {
            "typical_p": 0,
            "xtc_probability": 1,
            "top_n_sigma": 0.01,
            "dynatemp_range": 2,
            "dynatemp_exponent": 100,
        },
    ]
    for fields in ends:
        answer = server.post("/completion", json={**GOOD, **fields})
        assert answer.status_code == 200, (fields, answer.text)


@pytest.mark.parametrize(
    "prompt",
    [
        None, 5, True, {}, {"prompt_string": 5}, {"prompt_string": "a", "multimodal_data": ["x"]}, [], [[]], [{}],
        [None], [1.5, 1], [-1], [2**31], [10**30], [10**9], ["a", [10**9]], [True, 1], [["a", None]], ["a"] * 65,
        "x" * 40_000, ["x" * 40_000], [1, "x" * 40_000], "\ud800", [1, "\ud800"], [[[1]]], ["a"] * 5,
    ],
)  # fmt: skip
def test_a_prompt_that_is_none_is_refused(server: LiveServer, prompt: object) -> None:
    message = refused(server, "/completion", {**GOOD, "prompt": prompt})
    assert "prompt" in message or "surrogate" in message
    assert "xxx" not in message


@pytest.mark.parametrize(
    "bias",
    [
        5, "x", True, [5], [[]], [[1]], [[1, 2, 3]], [[1, True]], [[1, None]], [[1, "2"]], [[1.5, 1]], [[-1, 1]],
        [[10**30, 1]], [[10**9, 1]], [[1, 101]], [[1, -101]], [["", 1]], [["x" * 101, 1]], {"": 1}, {"1": True},
        {"a": 10**400}, [[1, 1]] * 1025, {str(i): 1 for i in range(1025)}, [["\ud800", 1]], {"999999999": 1},
        [[i, False] for i in range(1024)],
    ],
)  # fmt: skip
def test_a_bias_that_is_none_is_refused(server: LiveServer, bias: object) -> None:
    message = refused(server, "/completion", {**GOOD, "logit_bias": bias})
    assert "logit_bias" in message or "surrogate" in message


@pytest.mark.parametrize(
    "samplers",
    [5, {}, ["magic"], [5], ["top_k"] * 2, "kk", "kq", ["nucleus", "top_p"], ["top_k", None]],
)
def test_samplers_that_are_none_or_twice_there_are_refused(server: LiveServer, samplers: object) -> None:
    assert "samplers" in refused(server, "/completion", {**GOOD, "samplers": samplers})


def test_every_fault_is_named_at_once(server: LiveServer) -> None:
    body = {"prompt": 5, "n_predict": -2, "mirostat": "1", "samplers": 1, "logit_bias": 1, "stream": "x"}
    message = refused(server, "/completion", body)
    assert all(f"{name}:" in message for name in body)


def test_a_prompt_longer_than_the_context_says_both_lengths(server: LiveServer) -> None:
    answer = server.post("/completion", json={"prompt": [5] * 65536})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, 400, "exceed_context_size_error")
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (65536, 65536)


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/json", 400), (b"{", "application/json", 400), (b"[1]", "application/json", 400),
        (b"null", "application/json", 400), (b'{"prompt": NaN}', "application/json", 400),
        (b'"\xff\xfe"', "application/json", 400), (b"\xff\xfe{\x00}\x00", "application/json", 400),
        (b"[" * 100_000, "application/json", 400), (b'{"n": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b"{}", "text/plain", 415), (b'{"a": "' + b"x" * (1 << 20) + b'"}', "application/json", 413),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(
    server: LiveServer, path: str, content: bytes, content_type: str, status: int
) -> None:
    answer = server.post(path, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == status


@pytest.mark.parametrize("path", [*POSTED, *ASKED])
def test_other_methods_and_paths_beside_it_are_refused_in_the_same_shape(
    server: LiveServer, path: str
) -> None:
    wrong = "GET" if path in POSTED else "POST"
    for method in (wrong, "PUT", "DELETE"):
        answer = httpx.request(method, f"{server.url}{path}", timeout=WAIT_S, verify=NO_TLS)
        assert answer.status_code == 405
        assert answer.json()["error"]["code"] == 405
        assert answer.headers["allow"]
    for beside in (f"{path}/", f"{path}/x"):
        answer = server.get(beside)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert status_of(exchange(server.port, request("HEAD", path, "Connection: close"))) == 405


def test_after_all_that_it_still_serves(server: LiveServer) -> None:
    server.assert_alive()
    assert server.post("/completion", json=GOOD).json()["tokens_predicted"] == 1
