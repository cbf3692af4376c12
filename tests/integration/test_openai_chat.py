"""A real client and a real server: `/v1/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import LiveServer
from tests.support.openai_client import chunks, fault, text_of, whole
from tests.support.raw_http import request

PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Tell me about Tom."}]
GREEDY = {"messages": MESSAGES, "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    flags = ("-np", "4", "--max-waiting", "8", "--alias", "tom")
    server = LiveServer("demo", tmp_path_factory.mktemp("demo") / "log", *flags)
    yield server.wait_until_ready()
    assert server.stop() == 0


def ask(server: LiveServer, **body: Any) -> dict[str, Any]:
    return whole(server, PATH, **{**GREEDY, **body})


def test_an_answer_has_openais_shape(demo: LiveServer) -> None:
    answer = ask(demo)
    assert set(answer) == {
        "id", "object", "created", "model", "system_fingerprint", "choices", "usage", "timings",
    }  # fmt: skip
    assert (answer["object"], answer["model"]) == ("chat.completion", "tom")
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8


def test_the_tokens_of_a_chat_are_counted_without_an_answer(demo: LiveServer) -> None:
    counted = demo.post(f"{PATH}/input_tokens", json=GREEDY)
    assert counted.status_code == 200
    assert counted.json() == {
        "object": "response.input_tokens",
        "input_tokens": ask(demo)["usage"]["prompt_tokens"],
    }
    refused = demo.post(f"{PATH}/input_tokens", json={"messages": []})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages"


def test_the_first_chunk_has_the_role_and_the_last_has_no_delta(demo: LiveServer) -> None:
    documents = chunks(demo, PATH, **GREEDY)
    assert {one["object"] for one in documents} == {"chat.completion.chunk"}
    first, *middle, last = [one["choices"][0] for one in documents]
    assert first["delta"] == {"role": "assistant", "content": None}
    assert all(set(choice["delta"]) == {"content"} for choice in middle)
    assert (last["delta"], last["finish_reason"]) == ({}, "length")
    assert text_of(documents) == ask(demo)["choices"][0]["message"]["content"]
    assert "timings" in documents[-1]


def test_usage_comes_last_when_asked_for(demo: LiveServer) -> None:
    *_, last = chunks(demo, PATH, **GREEDY, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"] == ask(demo)["usage"] | {
        "prompt_tokens_details": last["usage"]["prompt_tokens_details"]
    }


def test_the_answer_may_fill_the_context_where_nothing_is_said(demo: LiveServer) -> None:
    assert ask(demo, max_tokens=None, ignore_eos=True)["usage"]["total_tokens"] == 512
    newer = ask(demo, max_tokens=100, max_completion_tokens=3, ignore_eos=True)
    assert newer["usage"]["completion_tokens"] == 3


def test_choices_are_what_their_seeds_give_alone(demo: LiveServer) -> None:
    body = {"temperature": 1.5, "seed": 11}
    several = ask(demo, n=3, **body)
    alone = [ask(demo, **{**body, "seed": 11 + k})["choices"][0]["message"]["content"] for k in range(3)]
    assert [choice["message"]["content"] for choice in several["choices"]] == alone
    assert len(set(alone)) > 1
    documents = chunks(demo, PATH, **{**GREEDY, **body}, n=3)
    assert [text_of(documents, k) for k in range(3)] == alone
    roles = [one["choices"][0]["index"] for one in documents if "role" in one["choices"][0]["delta"]]
    assert sorted(roles) == [0, 1, 2]
    assert several["usage"]["prompt_tokens"] == ask(demo)["usage"]["prompt_tokens"]


def test_logprobs_list_every_token_whole_and_streamed(demo: LiveServer) -> None:
    (choice,) = ask(demo, logprobs=True, top_logprobs=3)["choices"]
    content = choice["logprobs"]["content"]
    assert len(content) == 8
    for entry in content:
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"]  # greedy: the argmax
        assert bytes(entry["bytes"]).decode() == entry["token"]
    assert "".join(entry["token"] for entry in content).strip() == choice["message"]["content"].strip()
    documents = chunks(demo, PATH, **GREEDY, logprobs=True, top_logprobs=3)
    parts = [one["choices"][0]["logprobs"] for one in documents]
    assert [entry for part in parts if part for entry in part["content"]] == content


def test_ids_come_when_asked_for(demo: LiveServer) -> None:
    answer = ask(demo, return_token_ids=True)
    first, *documents = chunks(demo, PATH, **GREEDY, return_token_ids=True)
    assert first["prompt_token_ids"] == answer["prompt_token_ids"]
    streamed = [one["choices"][0].get("token_ids", []) for one in documents]
    assert [token_id for ids in streamed for token_id in ids] == answer["choices"][0]["token_ids"]
    same = {**GREEDY, "prompt": answer["prompt_token_ids"], "return_token_ids": True}
    continued = whole(demo, "/v1/completions", **same)
    assert continued["choices"][0]["token_ids"] == answer["choices"][0]["token_ids"]


def test_faults_name_what_the_client_wrote(demo: LiveServer) -> None:
    status, error = fault(demo, PATH, messages=[{"role": "user", "content": "word " * 900}])
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    status, error = fault(demo, PATH, messages=[], temperature=5)
    assert (status, error["param"]) == (400, "temperature")
    assert "messages" in error["message"]
    assert fault(demo, PATH, **GREEDY, logit_bias={"999999": 1})[1]["param"] == "logit_bias"
    long = [{"role": "user", "content": "x" * 40000}]
    assert fault(demo, PATH, messages=long)[1]["param"] == "messages"


def test_a_client_that_leaves_frees_its_places(server: LiveServer) -> None:
    """Two of its answers are computed, and one waits; none ends before the context of 65536 tokens is full."""
    body = {**GREEDY, "max_tokens": -1, "ignore_eos": True, "n": 3}
    mark = len(server.log)
    with server.stream(PATH, json={**body, "stream": True}) as response:
        next(response.iter_raw())
    for k in range(3):
        server.wait_for_log(rf"chatcmpl-\w+\.{k}: client left", after=mark)
    mark = len(server.log)
    content = json.dumps(body).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(content)}")
    with server.connect() as client:
        client.sendall(request("POST", PATH, *headers, body=content))
        server.wait_for_log(r"chatcmpl-\w+\.1 begins", after=mark)
    server.wait_for_log(r"chatcmpl-\w+\.2: abort", after=mark)
    server.assert_alive()


@pytest.mark.smollm2
def test_a_real_model_answers_in_its_own_template(smollm2: Path, tmp_path: Path) -> None:
    server = LiveServer(smollm2, tmp_path / "log").wait_until_ready()
    question = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    answer = whole(server, PATH, messages=question, temperature=0, max_tokens=20)
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert server.stop() == 0
