"""The FastAPI application: which routes there are, who may use them, what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from llorch.engine.service import EngineService
from llorch.fields.hosts import ANY, canonical_host, is_loopback
from llorch.server.access import OPEN_PATHS, AdminCheck, HostCheck, KeyCheck
from llorch.server.errors import ErrorShape, install_error_handlers, native_shape
from llorch.server.key_ring import KeyRing
from llorch.server.live_traces import LiveTraces
from llorch.server.metrics.exposition import Exposition
from llorch.server.openapi import DescribedApp
from llorch.server.receipts import ReceiptDesk
from llorch.server.routes import docs, generate, health, metrics, page, trace
from llorch.server.routes.anthropic import route as anthropic
from llorch.server.routes.anthropic.errors import anthropic_shape
from llorch.server.routes.llama_server import router as llama_server
from llorch.server.routes.llama_server.error_shape import PATHS, llama_server_shape
from llorch.server.routes.ollama import router as ollama
from llorch.server.routes.ollama.errors import ollama_shape
from llorch.server.routes.openai import router as openai
from llorch.server.routes.openai.errors import openai_shape
from llorch.server.tracing import tracing_of
from llorch.settings import Settings
from llorch.version import __version__

DESCRIPTION = """Text generation with Llama-family models on CPUs.

Client errors are `{"errors": [{"field", "constraint", "message"}]}`, with every fault of the request."""

ERROR_SHAPES: dict[str, ErrorShape] = {
    **dict.fromkeys(PATHS, llama_server_shape),
    "/v1/messages": anthropic_shape,
    "/api/": ollama_shape,
    **dict.fromkeys(("/v1/", "/chat/completions", "/models"), openai_shape),
    "/": native_shape,
}
"""How errors look, by the beginning of the path; the first that fits counts."""


def create_app(service: EngineService, *, grace_s: float = 0.0, is_local: bool | None = None) -> FastAPI:
    """An application over `service`, which it starts and stops with itself.

    Nothing happens at construction: the model is loaded when the server starts.

    Args:
        service: what computes; its settings are the application's.
        grace_s: how long running generations may go on when the server stops the application. `llorch serve` needs
            none, because it drains before; a server that only cuts its connections does.
        is_local: whether only this machine reaches the server; None: what the setting `host` says.

    Raises:
        SettingsError: the settings ask for spans, and OpenTelemetry is not installed.
    """

    tracing = tracing_of(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if tracing is not None:
            tracing.start()
        service.start()
        yield
        await service.stop(grace_s)
        if tracing is not None:
            await asyncio.to_thread(tracing.stop)

    app = DescribedApp(
        title="llorch",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # `docs` has a page of our own, which needs no network
        redoc_url=None,
        redirect_slashes=False,  # the redirect would go to whatever the Host header says
    )
    app.state.service = service
    app.state.metrics = Exposition(service)
    app.state.traces = LiveTraces(service)
    app.state.tracing = tracing
    app.state.receipts = ReceiptDesk(service)
    app.include_router(docs.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(generate.router)
    app.include_router(trace.router)
    app.include_router(llama_server.router)
    app.include_router(openai.router)
    app.include_router(anthropic.router)
    app.include_router(ollama.router)
    if service.settings.page:
        app.include_router(page.router())
    install_error_handlers(app, ERROR_SHAPES)
    guard(app, service.settings, is_local)
    return app


def guard(app: FastAPI, settings: Settings, is_local: bool | None = None) -> None:
    """Ask for the key, if there is one: no web page knows it. Without one, the Host header tells web pages apart.

    Paths of whoever runs the server need an admin key, whatever else there is.

    Args:
        app: gets the middleware.
        settings: which keys and names there are.
        is_local: whether only this machine reaches the server; None: what the setting `host` says.
    """
    if is_local is None:
        is_local = is_loopback(settings.host)
    users = app.state.keys = KeyRing(settings) if settings.api_key is not None else None
    admins = app.state.admin_keys = KeyRing(settings, "admin_key") if settings.admin_key is not None else None
    app.add_middleware(AdminCheck, paths=trace.PATHS, keys=admins, users=users)
    if users is not None:
        app.add_middleware(KeyCheck, keys=users, open_paths=_open_paths(settings))
    elif (is_local or settings.allowed_hosts) and ANY not in settings.allowed_hosts:
        names = {*settings.allowed_hosts, canonical_host(settings.host) or settings.host}
        app.add_middleware(HostCheck, allowed=names, takes_addresses=not is_local)


def _open_paths(settings: Settings) -> frozenset[str]:
    """Paths that need no API key; some of them need an admin key."""
    paths = {*OPEN_PATHS, *trace.PATHS}
    if settings.page:
        paths.update(page.page_files())
    if settings.metrics_without_key:
        paths.add(metrics.PATH)
    return frozenset(paths)
