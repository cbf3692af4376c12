"""The application in process: how errors look, and how it stops its service."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from llorch.engine.service import EngineService
from llorch.server.app import create_app
from llorch.server.errors import HTTPRefusalError, install_error_handlers, native_shape
from llorch.settings import Settings


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


@pytest.fixture
def app() -> FastAPI:
    """A server whose paths under /plain/ have errors of another shape."""
    app = create_app(EngineService(Settings(api_key="sesame")))
    install_error_handlers(app, {"/plain/": plain_shape, "/": native_shape})

    async def fail() -> None:
        raise RuntimeError("a fault")

    app.add_api_route("/plain/fail", fail)
    app.add_api_route("/fail", fail)
    return app


def test_every_error_has_the_shape_that_belongs_to_its_path(app: FastAPI) -> None:
    key = {"x-api-key": "sesame"}
    for path, headers, status in (
        ("nothing", key, 404),
        ("nothing", {}, 401),
        ("nothing", {"host": "evil.example"}, 403),
    ):
        native = get(app, f"/{path}", headers=headers)
        plain = get(app, f"/plain/{path}", headers=headers)
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
    options: dict[str, float], grace_s: float
) -> None:
    service = FakeService()
    app = create_app(service, **options)
    assert service.calls == []

    async def live() -> None:
        async with app.router.lifespan_context(app):
            assert service.calls == ["start"]

    asyncio.run(live())
    assert service.calls == ["start", grace_s]
