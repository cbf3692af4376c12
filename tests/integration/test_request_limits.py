"""What one request may ask for: places in the queue, tokens and answers, in every API, refused in words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llorch.server.app import create_app
from tests.support.live_server import LiveServer, events
from tests.support.raw_http import serving
from tests.support.services import running

ONE: dict[str, dict[str, Any]] = {
    "/generate": {"prompt": "Hello", "stream": False},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}]},
    "/completion": {"prompt": "Hello"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
    "/v1/embeddings": {"input": "Hello"},
    "/api/chat": {"messages": [{"role": "user", "content": "Hello"}]},
    "/api/generate": {"prompt": "Hello"},
    "/api/embed": {"input": "Hello"},
    "/embedding": {"content": "Hello"},
}
SEVERAL: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"n": 2}),
    ("/v1/completions", {"prompt": ["Hello", "Hello"]}),
    ("/v1/chat/completions", {"n": 2}),
    ("/completion", {"n_cmpl": 2}),
    ("/completion", {"prompt": ["Hello", "Hello"]}),
]
LIMIT_NAMES = [
    ("/generate", "max_tokens"),
    ("/v1/completions", "max_tokens"),
    ("/v1/chat/completions", "max_tokens"),
    ("/v1/chat/completions", "max_completion_tokens"),
    ("/completion", "n_predict"),
    ("/v1/messages", "max_tokens"),
]


@contextlib.contextmanager
def occupied(server: LiveServer, n: int) -> Iterator[None]:
    """So many places are taken."""
    with contextlib.ExitStack() as stack:
        body = {"prompt": "Hello", "max_tokens": 60_000, "ignore_eos": True}
        streams = []
        for _ in range(n):
            answer = stack.enter_context(server.stream("/generate", json=body))
            streams.append(events(answer.iter_lines()))
            assert next(streams[-1])[0] == "started"
        yield
    while server.get("/slots").text.count('"is_processing":true'):
        pass


def assert_full(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_full_queue_refuses_in_every_api(server: LiveServer) -> None:
    with occupied(server, 4):
        for path, body in ONE.items():
            assert_full(server.post(path, json=body))
            assert_full(server.post(path, json={**body, "stream": True}))


def test_one_place_is_too_few_for_two_answers(server: LiveServer) -> None:
    with occupied(server, 3):
        before = len(server.log)
        for path, fields in SEVERAL:
            assert_full(server.post(path, json={**ONE[path], **fields}))
        assert " begins" not in server.log[before:]  # not one of them was computed


@pytest.fixture(scope="module")
def strict(long_model: Path) -> Iterator[str]:
    """The URL of an application that gives two answers of eight tokens at most."""
    service = running(long_model, max_answer_tokens=8, max_choices=2, chat_template="chatml")
    with serving(create_app(service)) as port:
        yield f"http://127.0.0.1:{port}"
    asyncio.run(service.stop(0))


def post(url: str, path: str, **fields: Any) -> httpx.Response:
    return httpx.post(url + path, json={**ONE[path], **fields}, timeout=60)


@pytest.mark.parametrize(("path", "name"), LIMIT_NAMES)
def test_more_tokens_than_the_operator_allows_are_refused_by_name(strict: str, path: str, name: str) -> None:
    answer = post(strict, path, **{name: 9})
    assert answer.status_code == 400
    assert f"{name}: expected {name} <= 8 (max_answer_tokens of this server); got 9" in answer.text
    assert post(strict, path, **{name: 8}).status_code == 200


UNNUMBERED: list[tuple[str, dict[str, int]]] = [
    ("/generate", {}),
    ("/v1/completions", {}),
    ("/v1/completions", {"max_tokens": -1}),
    ("/v1/chat/completions", {}),
    ("/v1/chat/completions", {"max_tokens": -1}),
    ("/completion", {}),
    ("/completion", {"n_predict": -1}),
]


@pytest.mark.parametrize(("path", "fields"), UNNUMBERED)
def test_whoever_names_no_number_gets_as_many_as_the_operator_allows(
    strict: str, path: str, fields: dict[str, int]
) -> None:
    answer = post(strict, path, ignore_eos=True, **fields).json()
    n = answer["tokens_predicted"] if path == "/completion" else answer["usage"]["completion_tokens"]
    assert n == 8


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/completions", "n"), ("/v1/chat/completions", "n"), ("/completion", "n_cmpl")]
)
def test_more_answers_than_the_operator_allows_are_refused_by_name(strict: str, path: str, name: str) -> None:
    answer = post(strict, path, **{name: 3})
    assert answer.status_code == 400
    assert f"{name}: expected {name} <= 2 (max_choices of this server); got 3" in answer.text
    assert post(strict, path, **{name: 2}, max_tokens=1).status_code == 200


def test_all_limits_that_are_exceeded_are_named(strict: str) -> None:
    message = post(strict, "/v1/completions", n=3, max_tokens=9).json()["error"]["message"]
    assert "n: expected" in message
    assert "max_tokens: expected" in message
