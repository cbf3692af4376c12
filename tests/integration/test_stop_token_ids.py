"""`stop_token_ids`: tokens that end a text as the model's own end does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llorch
from llorch.errors import RequestError
from tests.support.live_server import LiveServer, generate_events

N = 24
BODY: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": N, "temperature": 0, "ignore_eos": True}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Once upon a time"}],
    "max_tokens": N,
    "temperature": 0,
    "return_token_ids": True,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    live = LiveServer(Path("demo"), tmp_path_factory.mktemp("server") / "log", "-np", "2", "--draft", "ngram")
    yield live.wait_until_ready()
    assert live.stop() == 0


@pytest.fixture(scope="module")
def free(server: LiveServer) -> dict[str, Any]:
    """The answer that nothing but its length ends."""
    return generate(server)


def generate(server: LiveServer, **fields: Any) -> dict[str, Any]:
    answer = server.post("/generate", json={**BODY, "stream": False, **fields})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def first_places(token_ids: list[int]) -> list[int]:
    """Where tokens stand for the first time."""
    return [i for i, token_id in enumerate(token_ids) if token_id not in token_ids[:i]]


def test_a_text_ends_before_the_first_of_them(server: LiveServer, free: dict[str, Any]) -> None:
    ids = free["token_ids"]
    for k in first_places(ids)[:8]:
        later = [token_id for token_id in ids if token_id not in ids[:k]]
        for fields in ({"stop_token_ids": [ids[k]]}, {"stop_token_ids": later, "ignore_eos": False}):
            ended = generate(server, **fields)
            assert (ended["finish_reason"], ended["token_ids"]) == ("stop", ids[:k])
            assert ended["matched_stop"] is None
            assert ended["usage"]["completion_tokens"] == k
            assert free["text"].startswith(ended["text"])
    assert generate(server, stop_token_ids=[])["token_ids"] == ids


def test_the_other_routes_end_there_too(server: LiveServer, free: dict[str, Any]) -> None:
    ids = free["token_ids"]
    k = first_places(ids)[5]
    asked = {**BODY, "stop_token_ids": [ids[k]], "return_token_ids": True, "logprobs": 1}
    answer = server.post("/v1/completions", json=asked).json()["choices"][0]
    assert (answer["finish_reason"], answer["token_ids"]) == ("stop", ids[:k])
    assert len(answer["logprobs"]["tokens"]) == k + 1  # with what ended it
    chat = server.post("/v1/chat/completions", json=CHAT).json()["choices"][0]
    k = first_places(chat["token_ids"])[3]
    ended = server.post(
        "/v1/chat/completions", json={**CHAT, "stop_token_ids": [chat["token_ids"][k]]}
    ).json()
    choice = ended["choices"][0]
    assert (choice["finish_reason"], choice["token_ids"]) == ("stop", chat["token_ids"][:k])
    assert ended["usage"]["completion_tokens"] == k


def test_a_stream_has_no_event_for_what_ended_it(server: LiveServer, free: dict[str, Any]) -> None:
    ids = free["token_ids"]
    k = first_places(ids)[4]
    events = [data for _, data in generate_events(server.url, **BODY, stop_token_ids=[ids[k]])]
    assert [event["id"] for event in events if event["type"] == "token" and event["id"] is not None] == ids[
        :k
    ]
    assert (events[-1]["type"], events[-1]["token_ids"]) == ("end", ids[:k])


def test_they_wait_for_min_tokens(server: LiveServer, free: dict[str, Any]) -> None:
    ids = free["token_ids"]
    k = first_places(ids)[4]
    asked = {"stop_token_ids": [ids[k]], "min_tokens": k + 1}
    waited = generate(server, **asked, ignore_eos=False)["token_ids"]
    assert waited[:k] == ids[:k]
    assert ids[k] not in waited
    assert len(waited) > k
    ignoring = generate(server, **asked)[
        "token_ids"
    ]  # where the model's end never comes, it is chosen and ends nothing
    assert ignoring[: k + 1] == ids[: k + 1]


def test_the_end_of_the_model_still_counts(server: LiveServer) -> None:
    with llorch.load("demo") as model:
        (end_id,) = model.tokenizer.vocab.eog_ids
    biased = {"logit_bias": {str(end_id): 100}, "stop_token_ids": [5], "ignore_eos": False}
    assert generate(server, **biased)["token_ids"] == []
    named = {"stop_token_ids": [end_id], "ignore_eos": True}
    assert end_id not in generate(server, **named)["token_ids"]


@pytest.mark.parametrize("ids", [[10**9], [-1], ["5"], [True], 5, [0] * 129, [1.5], [None]])
def test_what_are_no_tokens_is_refused(server: LiveServer, ids: object) -> None:
    for path, body in (("/generate", BODY), ("/v1/completions", BODY), ("/v1/chat/completions", CHAT)):
        answer = server.post(path, json={**body, "stop_token_ids": ids})
        assert answer.status_code == 400, answer.text
        assert "stop_token_ids" in answer.text


def test_of_the_python_interface(free: dict[str, Any]) -> None:
    with llorch.load("demo") as model:
        wanted: dict[str, Any] = {"max_tokens": N, "temperature": 0, "ignore_eos": True}
        ids = list(model.generate(BODY["prompt"], **wanted).token_ids)
        assert ids == free["token_ids"]
        k = first_places(ids)[3]
        ended = model.generate(BODY["prompt"], **wanted, stop_token_ids=[ids[k]])
        assert (ended.token_ids, ended.finish_reason) == (tuple(ids[:k]), "stop")
        assert "".join(model.stream(BODY["prompt"], **wanted, stop_token_ids=[ids[k]])) == ended.text
        for wrong in ([10**9], [-1], "5", [[1]], None):
            with pytest.raises(RequestError, match="stop_token_ids"):
                model.generate("Once", stop_token_ids=wrong)  # type: ignore[arg-type]
