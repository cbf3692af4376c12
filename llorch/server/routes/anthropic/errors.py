"""Errors as Anthropic writes them: ``{"type": "error", "error": {"type", "message"}}``."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from llorch.server.errors import outline

_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 500: "api_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


def anthropic_shape(error: Exception) -> Response:
    """The answer to a request that ended in `error`."""
    status, message, headers = outline(error)
    return JSONResponse(error_json(status, message), status, headers)


def error_json(status: int, message: str) -> dict[str, Any]:
    """The body of an error, and the data of a stream's last event if it fails."""
    error = {"type": _TYPES.get(status, "invalid_request_error"), "message": message}
    return {"type": "error", "error": error}
