"""Is the process alive, is the model ready: for supervisors, which ask by GET or HEAD, with or without a last slash."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from llorch.engine.service import EngineService
from llorch.server.errors import NOT_READY_RETRY_S

router = APIRouter(tags=["health"])


async def health() -> dict[str, str]:
    """Always 200, also while the model is loaded; needs no key."""
    return {"status": "ok"}


async def ready(request: Request) -> Response:
    """200 when requests are taken; 503 with the stage before that, and with the reason when they will not be again."""
    service: EngineService = request.app.state.service
    stage, reason = service.stage, service.reason
    if stage == "ready":
        return JSONResponse({"stage": stage})
    content = {"stage": stage} if reason is None else {"stage": stage, "reason": reason}
    return JSONResponse(content, 503, {"Retry-After": str(NOT_READY_RETRY_S)})


for _endpoint in (health, ready):
    for _path in (f"/{_endpoint.__name__}", f"/{_endpoint.__name__}/"):
        router.add_api_route(_path, _endpoint, methods=["GET", "HEAD"], include_in_schema=False)
# These are never reached, but described: two methods of one route would share an operation id in OpenAPI.
router.add_api_route("/health", health, summary="The process is alive")
router.add_api_route(
    "/ready", ready, summary="The model is loaded and compiled", responses={503: {"description": "Not yet"}}
)
