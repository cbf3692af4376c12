"""The outermost middleware: faults become answers with an id, and each request is counted once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from llorch.engine.service import EngineService
from llorch.observe.request_scope import current_request_id
from llorch.server.app import create_app
from llorch.settings import Settings


@pytest.fixture
def app() -> FastAPI:
    """An application with paths that fail."""
    app = create_app(EngineService(Settings()))

    async def fail() -> None:
        raise RuntimeError("a fault")

    async def fail_late() -> StreamingResponse:
        async def body() -> Any:
            yield b"a"
            raise RuntimeError("a late fault")

        return StreamingResponse(body())

    async def wait() -> None:
        app.state.is_waiting.set()
        await asyncio.Event().wait()

    for path, endpoint in {"/fail": fail, "/fail-late": fail_late, "/wait": wait}.items():
        app.add_api_route(path, endpoint, response_model=None)
    return app


async def ask(app: FastAPI, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.get(path, headers={"X-Request-Id": "r-1"})


def test_a_preflight_has_an_id_too() -> None:
    app = create_app(EngineService(Settings(cors_origins=("https://chat.example",))))

    async def preflight() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            headers = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
            return await client.options("/generate", headers={**headers, "X-Request-Id": "r-1"})

    answer = asyncio.run(preflight())
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (200, "r-1")
    assert counts(app) == {("OPTIONS", "other", 200): 1}


def counts(app: FastAPI) -> dict[tuple[str, str, int], int]:
    return dict(app.state.metrics.http.by_label)


def test_a_fault_is_one_error_of_the_log_and_a_500_with_the_id(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    answer = asyncio.run(ask(app, "/fail"))
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (500, "r-1")
    assert answer.json()["code"] == "internal_error"
    (error,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert error.exc_info
    assert counts(app) == {("GET", "/fail", 500): 1}


def test_a_fault_behind_the_head_of_an_answer_is_left_to_the_server_which_cuts_the_connection(
    app: FastAPI,
) -> None:
    async def work() -> None:
        with pytest.raises(RuntimeError, match="a late fault"):
            await ask(app, "/fail-late")
        assert current_request_id() == "r-1"  # for the line of whoever catches it

    asyncio.run(work())
    assert counts(app) == {("GET", "/fail-late", 200): 1}


def test_a_request_that_is_cancelled_before_its_answer_counts_as_a_client_that_left(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llorch")

    async def work() -> None:
        app.state.is_waiting = asyncio.Event()
        asking = asyncio.create_task(ask(app, "/wait"))
        await app.state.is_waiting.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(work())
    assert counts(app) == {("GET", "/wait", 499): 1}
    assert "client left" in caplog.records[-1].getMessage()
