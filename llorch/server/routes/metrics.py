"""`GET /metrics`: what the server has done, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from llorch.server.metrics.exposition import TEXT, Exposition

router = APIRouter(tags=["metrics"])

PATH = "/metrics"
_DESCRIPTION = {"description": "Counts and times in Prometheus' text format, or in OpenMetrics"}


def metrics(request: Request) -> Response:
    """Counts and times of requests, tokens and steps."""
    # No coroutine, so it is made on another thread.
    exposition: Exposition = request.app.state.metrics
    content, content_type = exposition.page(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type})


router.add_api_route(PATH, metrics, methods=["GET", "HEAD"], include_in_schema=False)
# Never reached, but described: two methods of one route would share an operation id in OpenAPI.
router.add_api_route(
    PATH,
    metrics,
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {**_DESCRIPTION, "content": {TEXT.partition(";")[0]: {"schema": {"type": "string"}}}}},
)
