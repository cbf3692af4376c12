"""The gateway over applications in this process: what it hands on, refuses, and says of a replica that is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import Message

from llorch.engine.service import EngineService
from llorch.ray_serve import gateway as gateway_module
from llorch.ray_serve.ask import Ask
from llorch.ray_serve.gateway import create_gateway
from llorch.server.app import create_app
from llorch.settings import Settings
from tests.support.local_replicas import HOST, Local, ask
from tests.support.services import do, running, until

BODY = {"prompt": "Hello", "max_tokens": 8, "seed": 1, "ignore_eos": True}
LONG = {**BODY, "max_tokens": 20000}


@pytest.fixture(scope="module")
def service(long_model: Path) -> Iterator[EngineService]:
    service = running(long_model)
    yield service
    asyncio.run(service.stop(0.0))


def gateway(service: EngineService, settings: Settings | None = None, **options: Any) -> FastAPI:
    return create_gateway(Local(service, **options), settings or service.settings)


def test_answers_are_those_of_the_application_with_the_name_of_the_replica(service: EngineService) -> None:
    body = {**BODY, "stream": False}
    direct = ask(create_app(service), "POST", "/generate", json=body)
    relayed = ask(gateway(service), "POST", "/generate", json=body)
    assert relayed.headers["x-llorch-replica"] == "r0"
    assert relayed.json()["token_ids"] == direct.json()["token_ids"]
    assert (
        ask(gateway(service), "GET", "/v1/models").json()
        == ask(create_app(service), "GET", "/v1/models").json()
    )
    assert ask(gateway(service), "POST", "/v1/chat/nothing", json={}).status_code == 404


@pytest.mark.parametrize(
    "path", ["/generate", "/v1/completions", "/v1/responses", "/v1/messages", "/completion"]
)
def test_a_stream_that_breaks_off_ends_with_an_error_of_its_api(service: EngineService, path: str) -> None:
    body: dict[str, Any] = {"prompt": "Hello", "max_tokens": 8, "stream": True}
    if path == "/v1/messages":
        body = {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 8,
            "stream": True,
            "model": "m",
        }
    if path == "/v1/responses":
        body = {"input": "Hello", "max_output_tokens": 8, "stream": True}
    if path == "/completion":
        body = {"prompt": "Hello", "n_predict": 8, "stream": True}
    response = ask(gateway(service, breaks_after=2), "POST", path, json=body)
    assert response.status_code == 200
    *_, last, end = response.text.split("\n\n")
    assert end == ""
    lines = last.split("\n")
    data = json.loads(lines[-1].removeprefix("data: "))
    if path == "/generate":
        assert lines[0] == "event: error"
        assert (data["type"], data["code"], data["retriable"]) == ("error", "replica_lost", True)
    elif path == "/v1/messages":
        assert lines[0] == "event: error"
        assert (data["type"], data["error"]["type"]) == ("error", "overloaded_error")
    elif path == "/v1/responses":
        assert lines[0] == "event: error"
        assert (data["error"]["type"], data["error"]["code"]) == ("server_error", "replica_lost")
    else:
        assert len(lines) == 1
        assert "the replica that computed this answer is gone" in data["error"]["message"]


def test_a_stream_of_lines_that_breaks_off_ends_with_a_line(service: EngineService) -> None:
    body = {"prompt": "Hello", "options": {"num_predict": 8}}
    response = ask(gateway(service, breaks_after=2), "POST", "/api/generate", json=body)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    *told, last = map(json.loads, response.text.splitlines())
    assert told
    assert all(one["model"] for one in told)
    assert list(last) == ["error"]
    assert "the replica that computed this answer is gone" in last["error"]


@pytest.mark.parametrize("breaks_after", [0, 1])
def test_an_answer_that_is_lost_before_its_body_is_a_503_with_the_time_to_come_back(
    service: EngineService, breaks_after: int
) -> None:
    app = gateway(service, breaks_after=breaks_after)
    response = ask(app, "POST", "/generate", json={**BODY, "stream": False})
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert response.json()["retriable"] is True
    assert ask(app, "POST", "/v1/completions", json=BODY).json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_is_lost_before_it_begins_comes_from_another_replica(
    service: EngineService, is_stream: bool
) -> None:
    body = {**BODY, "stream": is_stream}
    local = Local(service, breaks_after=0, n_broken=1)
    response = ask(create_gateway(local, service.settings), "POST", "/generate", json=body)
    assert (response.status_code, len(local.asked)) == (200, 2)
    if not is_stream:
        direct = ask(create_app(service), "POST", "/generate", json=body)
        assert response.json()["token_ids"] == direct.json()["token_ids"]
    else:
        assert response.text.count("event: start") == response.text.count("event: end") == 1


def test_a_request_that_ends_the_replicas_that_take_it_does_not_end_them_all(service: EngineService) -> None:
    local = Local(service, n=5, breaks_after=0)
    assert ask(create_gateway(local, service.settings), "POST", "/generate", json=BODY).status_code == 503
    assert len(local.asked) == 2


def test_a_client_that_leaves_ends_its_generation(service: EngineService) -> None:
    async def leave() -> None:
        app = gateway(service)
        sent = asyncio.Event()
        body = [{"type": "http.request", "body": json.dumps(LONG).encode()}]

        async def receive() -> Message:
            return body.pop()

        async def send(message: Message) -> None:
            sent.set()

        headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/generate",
            "http_version": "1.1",
            "headers": headers,
        }
        task = asyncio.create_task(app({**scope, "query_string": b""}, receive, send))
        await sent.wait()
        task.cancel()
        await until(lambda: service.n_open == 0)

    do(leave())


def test_a_cancellation_reaches_every_replica_and_finds_the_one_that_is_meant(service: EngineService) -> None:
    async def cancel() -> tuple[int, int]:
        await until(lambda: service.n_open == 0)  # generations of other tests may still be ending
        app = gateway(service)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
            generation = asyncio.create_task(client.post("/generate", json={**LONG, "job_id": "mine"}))
            await until(lambda: service.n_open == 1)
            found = await client.post("/cancel", json={"job_id": "mine"})
            assert '"finish_reason":"abort"' in (await generation).text
            await until(lambda: service.n_open == 0)
            again = await client.post("/cancel", json={"job_id": "mine"})
            return found.status_code, again.status_code

    assert do(cancel()) == (200, 404)


def test_keys_are_asked_for_at_the_gateway_and_texts_of_owners_kept_apart(service: EngineService) -> None:
    settings = service.settings.model_copy(update={"api_key": SecretStr("a: one\nb: two")})
    local = Local(service)
    app = create_gateway(local, settings)
    assert ask(app, "POST", "/generate", json=BODY).status_code == 401
    assert local.asked == []
    body = {**BODY, "prompt": "Hello " * 50}
    for key in ("one", "two"):
        ask(app, "POST", "/generate", json=body, headers={"Authorization": f"Bearer {key}"})
    one, two = (asked.keys for asked in local.asked)
    assert len(one) == len(two) > 1
    assert not set(one) & set(two)


def test_a_body_that_is_too_large_is_cut_off_and_refused(service: EngineService) -> None:
    local = Local(service)
    app = create_gateway(local, service.settings)
    n_bytes = service.settings.max_body_bytes
    response = ask(
        app, "POST", "/generate", content=b" " * (3 * n_bytes), headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    assert len(local.asked[0].body) <= 3 * n_bytes


def test_without_replicas_nothing_hangs(service: EngineService) -> None:
    app = gateway(service, n=0)
    assert ask(app, "POST", "/cancel", json={"job_id": "mine"}).status_code == 503
    assert ask(app, "POST", "/generate", json=BODY).status_code == 503
    assert ask(app, "GET", "/ready").status_code == 503
    assert ask(app, "GET", "/health").json() == {"status": "ok"}


def test_a_quick_request_that_no_replica_takes_is_refused_in_time(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nobody(Local):
        async def answer(self, ask: Ask) -> AsyncGenerator[list[Message]]:
            await asyncio.Event().wait()
            yield []

    monkeypatch.setattr(gateway_module, "ANSWER_S", 0.02)
    app = create_gateway(Nobody(service), service.settings)
    assert ask(app, "GET", "/v1/models").status_code == 503


@pytest.mark.parametrize("path", ["/trace/start", "/trace/stop"])
def test_there_are_no_traces_behind_a_gateway(service: EngineService, path: str) -> None:
    settings = service.settings.model_copy(update={"admin_key": SecretStr("tahini")})
    app = gateway(service, settings)
    answer = ask(app, "POST", path, headers={"X-Api-Key": "tahini"}, json={})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (404, "path")
    assert ask(app, "POST", path, json={}).status_code == 401
    assert ask(gateway(service), "POST", path, json={}).status_code == 403
