"""The FastAPI application: which routes there are, who may use them, what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from llorch.engine.service import EngineService
from llorch.server.access import HostCheck, KeyCheck, is_loopback
from llorch.server.errors import ErrorShape, install_error_handlers, native_shape
from llorch.server.routes import generate, health
from llorch.version import __version__

DESCRIPTION = """Text generation with Llama-family models on CPUs.

Client errors are `{"errors": [{"field", "constraint", "message"}]}`, with every fault of the request."""

ERROR_SHAPES: dict[str, ErrorShape] = {"/": native_shape}
"""How errors look, by the beginning of the path; the first that fits counts."""


def create_app(service: EngineService, *, grace_s: float = 0.0) -> FastAPI:
    """An application over `service`, which it starts and stops with itself.

    Nothing happens at construction: the model is loaded when the server starts.

    Args:
        service: what computes; its settings are the application's.
        grace_s: how long running generations may go on when the server stops the application. `llorch serve` needs
            none, because it drains before; a server that only cuts its connections does.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop(grace_s)

    app = FastAPI(
        title="llorch", version=__version__, description=DESCRIPTION, lifespan=lifespan, redoc_url=None
    )
    app.state.service = service
    app.include_router(health.router)
    app.include_router(generate.router)
    install_error_handlers(app, ERROR_SHAPES)
    settings = service.settings
    if settings.api_key is not None:
        app.add_middleware(KeyCheck, api_key=settings.api_key.get_secret_value())
    if is_loopback(settings.host):
        app.add_middleware(HostCheck)
    return app
