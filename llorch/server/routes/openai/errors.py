"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from llorch.engine.events import ErrorEvent
from llorch.errors import (
    ContextLengthError,
    EngineStoppedError,
    FieldError,
    InputError,
    QueueFullError,
    RequestError,
)
from llorch.server.errors import (
    NOT_READY_RETRY_S,
    GenerationFailedError,
    HTTPRefusalError,
    NotReadyError,
)

logger = logging.getLogger(__name__)

_NOT_FIELDS = frozenset({"body", "path", "method", "request", "Host", "Authorization"})
"""Subjects of faults that are no fields of a body."""
_CODES = {401: "invalid_api_key", 404: "not_found", 405: "method_not_allowed"}


def error_json(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> dict[str, object]:
    """The body of an error, and the data of a stream's last event if it fails."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event_error(event: ErrorEvent) -> dict[str, object]:
    """What a failed generation looks like."""
    kind = "invalid_request_error" if event.code == "constraint_error" else "server_error"
    return error_json(event.message, kind, code=event.code)


def openai_shape(error: Exception) -> Response:
    """The answer to a request that ended in `error`; `param` is the first field at fault, the message names all."""
    if isinstance(error, HTTPRefusalError):
        return _refusal(error, error.status, error.headers, _CODES.get(error.status))
    if isinstance(error, ContextLengthError):
        # Clients look for OpenAI's words, "maximum context length is".
        field = error.errors[0].field
        free = ", one of which must stay free for the answer" if error.has_answer else ""
        subject = "the prompt" if field == "prompt" else field
        message = (
            f"this model's maximum context length is {error.n_ctx} tokens{free}; {subject} has "
            f"{error.n_prompt_tokens}"
        )
        fault = FieldError(field, error.errors[0].constraint, message)
        return _refusal(RequestError([fault]), code="context_length_exceeded")
    if isinstance(error, RequestError):
        return _refusal(error)
    if isinstance(error, InputError):
        return JSONResponse(error_json(str(error), "invalid_request_error"), 400)
    if isinstance(error, QueueFullError):
        return _unavailable(error, "overloaded", error.retry_after_s)
    if isinstance(error, NotReadyError):
        return _unavailable(error, "not_ready", NOT_READY_RETRY_S)
    if isinstance(error, EngineStoppedError):
        return _unavailable(error, "stopped", NOT_READY_RETRY_S)
    if isinstance(error, GenerationFailedError):
        return JSONResponse(event_error(error.event), error.status)
    logger.error("a request failed: %s", type(error).__name__, exc_info=error)
    message = "the server failed; its log says why"
    return JSONResponse(error_json(message, "server_error", code="internal_error"), 500)


def renamed(error: RequestError, names: Mapping[str, str]) -> RequestError:
    """`error` with the engine's names of fields replaced by those that the client wrote."""
    faults = []
    for fault in error.errors:
        name = names.get(fault.field, fault.field)
        message = fault.message
        if message.startswith(f"{fault.field}:"):
            message = name + message.removeprefix(fault.field)
        faults.append(FieldError(name, fault.constraint, message))
    error.errors[:] = faults
    return error


def _refusal(
    error: RequestError,
    status: int = 400,
    headers: Mapping[str, str] | None = None,
    code: str | None = None,
) -> Response:
    first = error.errors[0].field
    message = "; ".join(fault.message for fault in error.errors)
    param = None if first in _NOT_FIELDS else first
    content = error_json(message, "invalid_request_error", param=param, code=code)
    return JSONResponse(content, status, dict(headers or {}))


def _unavailable(error: Exception, code: str, retry_after_s: int) -> Response:
    content = error_json(str(error), "server_error", code=code)
    return JSONResponse(content, 503, {"Retry-After": str(retry_after_s)})
