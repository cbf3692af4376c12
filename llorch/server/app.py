"""The FastAPI application: which routes there are, who may use them, what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from llorch.engine.service import EngineService
from llorch.fields.api_keys import owners_by_key
from llorch.fields.hosts import ANY, canonical_host, is_loopback
from llorch.server.access import HostCheck, KeyCheck
from llorch.server.errors import ErrorShape, install_error_handlers, native_shape
from llorch.server.openapi import DescribedApp
from llorch.server.routes import anthropic_messages, generate, health
from llorch.server.routes.anthropic_messages import anthropic_shape
from llorch.server.routes.llama_server import router as llama_server
from llorch.server.routes.llama_server.error_shape import PATHS, llama_server_shape
from llorch.server.routes.openai import router as openai
from llorch.server.routes.openai.errors import openai_shape
from llorch.settings import Settings
from llorch.version import __version__

DESCRIPTION = """Text generation with Llama-family models on CPUs.

Client errors are `{"errors": [{"field", "constraint", "message"}]}`, with every fault of the request."""

ERROR_SHAPES: dict[str, ErrorShape] = {
    **dict.fromkeys(PATHS, llama_server_shape),
    "/v1/messages": anthropic_shape,
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
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop(grace_s)

    app = DescribedApp(
        title="llorch",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would go to whatever the Host header says
    )
    app.state.service = service
    app.include_router(health.router)
    app.include_router(generate.router)
    app.include_router(llama_server.router)
    app.include_router(openai.router)
    app.include_router(anthropic_messages.router)
    install_error_handlers(app, ERROR_SHAPES)
    _guard(app, service.settings, is_loopback(service.settings.host) if is_local is None else is_local)
    return app


def _guard(app: FastAPI, settings: Settings, is_local: bool) -> None:
    """Ask for the key, if there is one: no web page knows it. Without one, the Host header tells web pages apart."""
    if settings.api_key is not None:
        app.add_middleware(KeyCheck, owners=owners_by_key(settings.api_key.get_secret_value()))
    elif (is_local or settings.allowed_hosts) and ANY not in settings.allowed_hosts:
        names = {*settings.allowed_hosts, canonical_host(settings.host) or settings.host}
        app.add_middleware(HostCheck, allowed=names, takes_addresses=not is_local)
