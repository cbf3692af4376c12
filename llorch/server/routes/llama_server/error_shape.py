"""Errors as llama-server writes them: ``{"error": {"code", "message", "type"}}``.

Source: llama.cpp 0.5.0-dev, `tools/server/server-common.cpp`, `format_error_response`.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from llorch.engine.events import ErrorEvent
from llorch.errors import ContextLengthError
from llorch.server.errors import event_status, outline

PATHS = (
    "/apply-template",
    "/completion",
    "/detokenize",
    "/embedding",
    "/props",
    "/slots",
    "/tokenize",
    "/v1/health",
)
"""Beginnings of the paths whose errors look like this."""

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


def llama_server_shape(error: Exception) -> Response:
    """llama-server's answer to a request that ended in `error`; the status and the headers are those of every API."""
    status, message, headers = outline(error)
    content = error_content(status, message)
    if isinstance(error, ContextLengthError):
        content |= {
            "type": "exceed_context_size_error",
            "n_prompt_tokens": error.n_prompt_tokens,
            "n_ctx": error.n_ctx,
        }
    return JSONResponse({"error": content}, status, headers)


def error_content(status: int, message: str) -> dict[str, object]:
    """What stands under ``"error"``."""
    other = "invalid_request_error" if status < 500 else "server_error"
    return {"code": status, "message": message, "type": _TYPES.get(status, other)}


def event_error(event: ErrorEvent) -> dict[str, object]:
    """The same for a generation that failed on its way."""
    return error_content(event_status(event), event.message)
