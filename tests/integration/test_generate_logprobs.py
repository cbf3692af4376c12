"""`logprobs` of `POST /generate`: as OpenAI's route says them, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_server import LiveServer, generate_events

BODY: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0, "seed": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    live = LiveServer(Path("demo"), tmp_path_factory.mktemp("server") / "log", "-np", "2")
    yield live.wait_until_ready()
    assert live.stop() == 0


def whole(server: LiveServer, **fields: Any) -> dict[str, Any]:
    answer = server.post("/generate", json={**BODY, "stream": False, **fields})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_the_body_lists_each_token_with_its_alternatives(server: LiveServer) -> None:
    document = whole(server, logprobs=3)
    assert [entry["id"] for entry in document["logprobs"]] == document["token_ids"]
    for entry in document["logprobs"]:
        top = entry["top_logprobs"]
        assert [set(one) for one in top] == [{"id", "text", "logprob"}] * 3
        assert (top[0]["id"], top[0]["logprob"]) == (entry["id"], entry["logprob"])  # the answer is greedy
        assert 0 >= top[0]["logprob"] >= top[1]["logprob"] >= top[2]["logprob"]
    assert document["logprobs"][0]["top_logprobs"][0]["text"] == document["text"][0]


def test_it_is_what_openais_route_says(server: LiveServer) -> None:
    theirs = server.post("/v1/completions", json={**BODY, "logprobs": 2}).json()["choices"][0]["logprobs"]
    ours = whole(server, logprobs=2)["logprobs"]
    assert [entry["logprob"] for entry in ours] == theirs["token_logprobs"]
    for entry, top in zip(ours, theirs["top_logprobs"], strict=True):
        assert {one["text"]: one["logprob"] for one in entry["top_logprobs"]} == top


def test_events_of_a_stream_bear_it_themselves(server: LiveServer) -> None:
    asked = whole(server, logprobs=2)["logprobs"]
    events = generate_events(server.url, **BODY, logprobs=2)
    tokens = [data for name, data in events if name == "token"]
    assert [{name: one[name] for name in ("id", "logprob", "top_logprobs")} for one in tokens] == asked
    assert "logprobs" not in events[-1][1]
    assert {name for name, _ in events} == {"started", "token", "end"}


def test_an_end_token_is_no_token_of_the_answer(server: LiveServer) -> None:
    end = server.post("/tokenize", json={"content": "</s>", "parse_special": True}).json()["tokens"]
    assert len(end) == 1, end
    fields = {"logit_bias": {str(end[0]): 100}, "logprobs": 1, "min_tokens": 2}
    document = whole(server, **fields)
    assert document["finish_reason"] == "stop"
    assert len(document["logprobs"]) == len(document["token_ids"]) == 2
    events = generate_events(server.url, **{**BODY, **fields})
    assert [name for name, _ in events] == ["started", "token", "token", "end"]


def test_zero_tells_the_token_alone_and_null_nothing(server: LiveServer) -> None:
    assert all(entry["top_logprobs"] == [] for entry in whole(server, logprobs=0)["logprobs"])
    assert "logprobs" not in whole(server, logprobs=None)


def test_the_answer_and_its_receipt_are_the_same(server: LiveServer) -> None:
    plain, judged = (whole(server, receipt=True, **more) for more in ({}, {"logprobs": 5}))
    assert judged["logprobs"]
    assert judged["receipt"]["logits"] == plain["receipt"]["logits"]


@pytest.mark.parametrize("value", [-1, 21, "3", 1.5, True])
def test_what_is_no_count_is_refused(server: LiveServer, value: object) -> None:
    answer = server.post("/generate", json={**BODY, "logprobs": value})
    assert answer.status_code == 400
    assert [fault["field"] for fault in json.loads(answer.text)["errors"]] == ["logprobs"]
