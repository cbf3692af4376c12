"""A request's time is limited by the operator and by its client, from its acceptance to its end, in every API."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llorch.engine.events import EndEvent, ErrorEvent
from llorch.engine.service import EngineService
from llorch.server.app import create_app
from tests.support.live_server import WAIT_S, LiveServer, events, generate_events, wait_until
from tests.support.raw_http import serving
from tests.support.services import ENDLESS, do, running, stream, until

LONG: dict[str, Any] = {"prompt": "Hello", "max_tokens": 60_000, "ignore_eos": True}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 60_000, "ignore_eos": True,
}  # fmt: skip
SHORT_S = 0.3
"""Suffices for a first token where nothing else runs."""
AT_ONCE_S = 1e-6


@pytest.fixture(scope="module")
def service(long_model: Path) -> Iterator[EngineService]:
    """Two sequences at a time, and no limit."""
    service = running(long_model)
    yield service
    asyncio.run(service.stop(0))


class Limited:
    """An application whose operator limits the time of every request.

    Args:
        url: where it is served.
        service: what it serves.
    """

    def __init__(self, url: str, service: EngineService) -> None:
        self.url = url
        self._service = service

    def limit(self, seconds: float) -> None:
        """Let no request take longer, from now on."""
        changed = {"request_timeout_s": seconds}
        self._service.settings = self._service.settings.model_copy(update=changed)

    def limits(self) -> Iterator[float]:
        """One limit after the other, until it suffices for the first token: a busy machine takes its time."""
        for doublings in range(9):
            self.limit(SHORT_S * 2**doublings)
            yield SHORT_S * 2**doublings

    def post(self, path: str, *, header: str | None = None, **fields: Any) -> dict[str, Any]:
        """The answer to a request whose time is over after its first token."""
        headers = {} if header is None else {"X-Request-Timeout": header}
        for _ in self.limits():
            answer = httpx.post(self.url + path, json=fields, headers=headers, timeout=WAIT_S)
            if answer.status_code != 504:
                break
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture(scope="module")
def limited(long_model: Path) -> Iterator[Limited]:
    service = running(long_model, chat_template="chatml", request_timeout_s=SHORT_S)
    with serving(create_app(service)) as port:
        yield Limited(f"http://127.0.0.1:{port}", service)
    asyncio.run(service.stop(0))


@pytest.fixture
def busy(server: LiveServer) -> Iterator[LiveServer]:
    """A server whose sequences are all in use, so that whoever comes must wait."""
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(2):
            answer = stack.enter_context(server.stream("/generate", json=LONG))
            streams.append(events(answer.iter_lines()))
            assert [name for name, _ in itertools.islice(streams[-1], 2)] == ["started", "token"]
        yield server
    assert any('"is_processing":true' not in server.get("/slots").text for _ in wait_until(WAIT_S))


def data_of(text: str) -> list[dict[str, Any]]:
    """The JSON of each `data:` line."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_a_stream_whose_time_is_over_ends_with_the_text_so_far(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="llorch"):
        for _ in limited.limits():
            names, payloads = zip(*generate_events(limited.url, **LONG), strict=True)
            if payloads[-1].get("code") != "timeout":
                break
        line = f"{payloads[-1]['job_id']}: timeout, 7 + {payloads[-1]['usage']['completion_tokens']} tokens"
        for _ in wait_until(WAIT_S):  # it follows the stream
            if line in caplog.text:
                break
    assert names[0] == "started"
    assert names[-1] == "end"
    end = payloads[-1]
    assert (end["finish_reason"], end["timed_out"]) == ("length", True)
    assert 0 < end["usage"]["completion_tokens"] < LONG["max_tokens"]
    assert end["text"] == "".join(payload["text"] for payload in payloads[1:-1])
    assert line in caplog.text


def test_an_answer_in_time_does_not_mention_it(limited: Limited) -> None:
    limited.limit(WAIT_S)
    body = {"prompt": "Hello", "max_tokens": 2, "stream": False}
    answer = httpx.post(f"{limited.url}/generate", json=body, timeout=WAIT_S)
    assert "timed_out" not in answer.json()


def test_every_api_ends_the_text_as_at_its_limit_of_tokens(limited: Limited) -> None:
    native = limited.post("/generate", **LONG, stream=False)
    assert (native["finish_reason"], native["timed_out"]) == ("length", True)
    chat = limited.post("/v1/chat/completions", **CHAT, n=2)
    assert [choice["finish_reason"] for choice in chat["choices"]] == ["length", "length"]
    completion = limited.post("/v1/completions", **LONG)
    assert completion["choices"][0]["finish_reason"] == "length"
    assert limited.post("/completion", **LONG, n_predict=-1)["stop_type"] == "limit"
    response = limited.post("/v1/responses", input="Hello", ignore_eos=True)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    ollama = limited.post("/api/generate", prompt="Hello", raw=True, stream=False)
    assert ollama["done_reason"] in ("length", "stop")  # as below
    message = limited.post("/v1/messages", **CHAT)
    assert message["stop_reason"] in ("max_tokens", "end_turn")  # here the model may end its text


def test_a_client_never_gets_more_time_than_the_operator_gives(limited: Limited) -> None:
    assert limited.post("/generate", **LONG, timeout_s=3600, stream=False, header="3600")["timed_out"] is True


BODIES: dict[str, dict[str, Any]] = {
    "/generate": {**LONG, "stream": False, "timeout_s": AT_ONCE_S},
    "/v1/chat/completions": {**CHAT, "timeout": AT_ONCE_S},
    "/v1/completions": {**LONG, "timeout": AT_ONCE_S},
    "/v1/responses": {"input": "Hello", "timeout": AT_ONCE_S},
    "/completion": {**LONG, "timeout": AT_ONCE_S},
    "/v1/messages": {**CHAT, "timeout": AT_ONCE_S},
    "/api/chat": {**CHAT, "timeout": AT_ONCE_S, "stream": False},
    "/api/generate": {"prompt": "Hello", "timeout": AT_ONCE_S, "stream": False},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_request_whose_time_is_over_before_its_first_token_is_a_504(busy: LiveServer, path: str) -> None:
    answer = busy.post(path, json=BODIES[path])
    assert answer.status_code == 504, answer.text
    assert "time was over before its first token" in answer.text
    assert "invalid_request" not in answer.text  # the client did nothing wrong


@pytest.mark.parametrize("path", BODIES)
def test_the_header_counts_in_every_api(busy: LiveServer, path: str) -> None:
    body = {name: value for name, value in BODIES[path].items() if not name.startswith("timeout")}
    answer = busy.post(path, json=body, headers={"X-Request-Timeout": "0.000001"})
    assert answer.status_code == 504


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", "1e9", "5_0", "9" * 400, ""])
@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/completion"])
def test_a_header_that_is_no_time_is_refused(server: LiveServer, path: str, value: str) -> None:
    answer = server.post(path, json={"prompt": "Hello"}, headers={"X-Request-Timeout": value})
    assert answer.status_code == 400
    assert "X-Request-Timeout: expected a number, 0 < seconds <= 86400" in answer.text


def test_a_field_that_is_no_time_is_refused(server: LiveServer) -> None:
    answer = server.post("/generate", json={"prompt": "Hello", "timeout_s": 0})
    assert answer.json()["errors"][0]["field"] == "timeout_s"
    assert (
        server.post("/v1/completions", json={"prompt": "a", "timeout": "5"}).json()["error"]["param"]
        == "timeout"
    )
    hint = server.post("/generate", json={"prompt": "Hello", "timeout": 5}).json()["errors"][0]["message"]
    assert "did you mean timeout_s?" in hint


def test_streams_say_it_in_an_error_event(busy: LiveServer) -> None:
    streamed = generate_events(busy.url, prompt="Hello", timeout_s=AT_ONCE_S)
    name, error = streamed[-1]
    assert (name, error["code"], error["retriable"]) == ("error", "timeout", True)
    chat = busy.post("/v1/chat/completions", json={**BODIES["/v1/chat/completions"], "stream": True})
    assert data_of(chat.text)[-1]["error"]["code"] == "timeout"
    assert "[DONE]" not in chat.text
    native = busy.post("/completion", json={**BODIES["/completion"], "stream": True})
    error = data_of(native.text)[-1]["error"]
    assert (error["code"], error["type"]) == (504, "server_error")
    response = busy.post("/v1/responses", json={**BODIES["/v1/responses"], "stream": True})
    failed = data_of(response.text)[-1]
    assert (failed["type"], failed["response"]["error"]["code"]) == ("response.failed", "server_error")
    assert "time was over" in failed["response"]["error"]["message"]
    anthropic = busy.post("/v1/messages", json={**BODIES["/v1/messages"], "stream": True})
    assert data_of(anthropic.text)[-1]["error"]["type"] == "timeout_error"
    ollama = busy.post("/api/chat", json={**BODIES["/api/chat"], "stream": True})
    assert "time was over" in json.loads(ollama.text.splitlines()[-1])["error"]


def test_a_queue_is_left_in_order(busy: LiveServer) -> None:
    waiting = busy.post("/generate", json={**LONG, "timeout_s": 0.05, "stream": False})
    assert waiting.status_code == 504
    assert waiting.json()["code"] == "timeout"
    busy.wait_for_log(r"timeout, 7 \+ \? tokens")


def test_a_deadline_ends_nobody_else(service: EngineService) -> None:
    async def main() -> None:
        [late] = service.reserve([None], timeout_s=0.05)
        await service.submit(place=late, **ENDLESS)
        other = await service.submit(**ENDLESS)
        last = [event async for event in stream(late)][-1]
        assert isinstance(last, EndEvent | ErrorEvent)
        assert service.n_open == 1
        assert other.deadline is None
        service.release(other)
        await until(lambda: service.n_open == 0)

    do(main())


def test_a_request_that_ends_in_time_lets_go_of_its_timer(service: EngineService) -> None:
    async def main() -> None:
        [place] = service.reserve([None], timeout_s=3600)
        await service.submit(place=place, prompt="Hello", max_tokens=1)
        async for _ in stream(place):
            pass
        [unused] = service.reserve([None], timeout_s=3600)
        service.withdraw(unused)
        assert service.n_open == 0
        for submission in (place, unused):
            assert submission.deadline is not None
            assert submission.deadline.cancelled()

    do(main())
