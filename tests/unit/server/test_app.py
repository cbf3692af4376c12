"""The application in process: how errors look, and how it stops its service."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.responses import PlainTextResponse, Response

from llorch.engine.engine import open_configured
from llorch.engine.service import EngineService
from llorch.open_model import OpenModel
from llorch.progress import Progress
from llorch.server.app import create_app
from llorch.server.errors import HTTPRefusalError, install_error_handlers, native_shape
from llorch.settings import Settings

WAIT_S = 60.0
"""Only a failing test waits so long."""


def get(app: FastAPI, path: str, **options: Any) -> httpx.Response:
    """One request to `app`, whose lifespan does not run."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, **options)

    return asyncio.run(ask())


def plain_shape(error: Exception) -> Response:
    status = error.status if isinstance(error, HTTPRefusalError) else 500
    return PlainTextResponse(f"plain: {error}", status)


def with_plain_paths(**settings: Any) -> FastAPI:
    """A server whose paths under /plain/ have errors of another shape."""
    app = create_app(EngineService(Settings(**settings)))
    install_error_handlers(app, {"/plain/": plain_shape, "/": native_shape})

    async def fail() -> None:
        raise RuntimeError("a fault")

    app.add_api_route("/plain/fail", fail)
    app.add_api_route("/fail", fail)
    return app


@pytest.fixture
def app() -> FastAPI:
    return with_plain_paths(api_key=SecretStr("sesame"))


def test_every_error_has_the_shape_that_belongs_to_its_path(app: FastAPI) -> None:
    key = {"x-api-key": "sesame"}
    for asked, headers, status in (
        (app, key, 404),
        (app, {}, 401),
        (with_plain_paths(), {"host": "evil.example"}, 403),
    ):
        native = get(asked, "/nothing", headers=headers)
        plain = get(asked, "/plain/nothing", headers=headers)
        assert (native.status_code, plain.status_code) == (status, status)
        assert set(native.json()["errors"][0]) == {"field", "constraint", "message"}
        assert plain.text.startswith("plain: ")


def test_a_fault_of_the_server_is_500_in_the_shape_of_its_path_and_logged(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    answer = get(app, "/fail", headers={"x-api-key": "sesame"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "a fault" not in answer.text
    assert "RuntimeError" in caplog.text
    answer = get(app, "/plain/fail", headers={"x-api-key": "sesame"})
    assert (answer.status_code, answer.text) == (500, "plain: a fault")


class FakeService(EngineService):
    """A service that only notes what it is told."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.calls: list[object] = []

    def start(self) -> None:
        self.calls.append("start")

    async def stop(self, grace_s: float | None = None) -> None:
        self.calls.append(grace_s)


@pytest.mark.parametrize(("options", "grace_s"), [({}, 0.0), ({"grace_s": 7.0}, 7.0)])
def test_the_application_starts_its_service_and_stops_it_with_the_grace_period(
    options: dict[str, Any], grace_s: float
) -> None:
    service = FakeService()
    app = create_app(service, **options)
    assert service.calls == []

    async def live() -> None:
        async with app.router.lifespan_context(app):
            assert service.calls == ["start"]

    asyncio.run(live())
    assert service.calls == ["start", grace_s]


def test_until_the_model_is_ready_requests_get_the_stage_and_when_to_come_back(tiny_model: Path) -> None:
    may_compile, may_load, may_open = threading.Event(), threading.Event(), threading.Event()

    def open_step_by_step(settings: Settings, progress: Progress) -> OpenModel:
        may_compile.wait(WAIT_S)
        progress("compiling", 0, 1)
        may_load.wait(WAIT_S)
        progress("loading", 0, 1)
        may_open.wait(WAIT_S)
        return open_configured(settings, progress)

    service = EngineService(Settings(model=str(tiny_model), threads=1), opener=open_step_by_step)
    app = create_app(service)

    async def reach(client: httpx.AsyncClient, stage: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while (ready := await client.get("/ready")).json() != {"stage": stage}:
                await asyncio.sleep(0.01)
        refused = await client.post("/generate", json={"prompt": "a"})
        assert (ready.status_code, refused.status_code) == (503, 503)
        assert (refused.json()["code"], refused.json()["stage"]) == ("not_ready", stage)
        assert int(ready.headers["retry-after"]) >= 1
        assert int(refused.headers["retry-after"]) >= 1

    async def live() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            await reach(client, "loading")
            assert (await client.get("/health")).json() == {"status": "ok"}
            assert (await client.post("/generate", json={"prompt": "a", "top_k": -1})).status_code == 400
            may_compile.set()
            await reach(client, "compiling")
            may_load.set()
            await reach(client, "loading")
            may_open.set()
            await asyncio.to_thread(service.wait_until_ready, WAIT_S)
            assert (await client.get("/ready")).json() == {"stage": "ready"}
            answer = await client.post("/generate", json={"prompt": "a", "max_tokens": 2, "stream": False})
            assert answer.status_code == 200

    asyncio.run(live())
    assert service.stage == "stopped"
