"""The FastAPI application: which routes there are, who may use them, what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from llorch.engine.service import EngineService
from llorch.server import generate, health
from llorch.server.access import HostCheck, KeyCheck, is_loopback
from llorch.server.errors import install_error_handlers
from llorch.settings import Settings
from llorch.version import __version__

DESCRIPTION = """Text generation with Llama-family models on CPUs.

Client errors are `{"errors": [{"field", "constraint", "message"}]}`, with every fault of the request."""


def create_app(service: EngineService, settings: Settings) -> FastAPI:
    """An application over `service`, which it starts and stops with itself.

    Nothing happens at construction: the model is loaded when the server starts.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop(0.0)

    app = FastAPI(
        title="llorch", version=__version__, description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    app.state.service = service
    app.state.settings = settings
    app.include_router(health.router)
    app.include_router(generate.router)
    install_error_handlers(app)
    if settings.api_key is not None:
        app.add_middleware(KeyCheck, api_key=settings.api_key.get_secret_value())
    if is_loopback(settings.host):
        app.add_middleware(HostCheck)
    return app
