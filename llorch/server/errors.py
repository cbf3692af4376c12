"""Errors as HTTP answers, in the shape of the API that was asked.

The native shape: a 4xx is ``{"errors": [{"field", "constraint", "message"}, ...]}`` with every fault found; a 5xx has
the keys of the stream's `error` event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from llorch.engine.events import ErrorEvent
from llorch.errors import (
    ContextLengthError,
    DuplicateJobError,
    EngineStoppedError,
    FieldError,
    InputError,
    LlorchError,
    QueueFullError,
    RequestError,
)

logger = logging.getLogger(__name__)

ErrorShape: TypeAlias = Callable[[Exception], Response]
"""Makes the answer to a request that ended in an exception."""

NOT_READY_RETRY_S = 2
"""Seconds after which a client may ask again while the model is loaded or compiled."""


class HTTPRefusalError(RequestError):
    """A request is refused with another status than 400."""

    def __init__(self, status: int, error: FieldError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__([error])
        self.status = status
        self.headers = dict(headers or {})


class NotReadyError(LlorchError):
    """Requests are not taken; `stage` says why, `reason` in words."""

    def __init__(self, stage: str, reason: str | None = None) -> None:
        super().__init__(f"the server is not ready: {reason or stage}")
        self.stage = stage


class GenerationFailedError(LlorchError):
    """A generation that was accepted failed before its answer began; `event` says how."""

    def __init__(self, event: ErrorEvent) -> None:
        super().__init__(event.message)
        self.event = event

    @property
    def status(self) -> int:
        """The status of the answer."""
        return event_status(self.event)


def event_status(event: ErrorEvent) -> int:
    """What a failed generation's status is, or would be if its stream had not begun.

    503 where the same request may succeed later, 400 where its grammar failed, 504 where its time was over.
    """
    known = {"constraint_error": 400, "timeout": 504}
    return known.get(event.code, 503 if event.retriable else 500)


def request_status(error: RequestError) -> int:
    """409 for a name that is taken, 400 for other faults."""
    return 409 if isinstance(error, DuplicateJobError) else 400


def refusal(
    errors: Sequence[FieldError],
    status: int = 400,
    headers: Mapping[str, str] | None = None,
    **extra: object,
) -> JSONResponse:
    """A 4xx answer that lists what is wrong."""
    faults = [{"field": e.field, "constraint": e.constraint, "message": e.message} for e in errors]
    return JSONResponse({"errors": faults, **extra}, status, dict(headers or {}))


def failure(
    code: str,
    message: str,
    *,
    status: int = 500,
    is_retriable: bool = False,
    retry_after_s: int | None = None,
    **extra: object,
) -> JSONResponse:
    """A 5xx answer in the shape of the stream's `error` event."""
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    content = {"type": "error", "code": code, "message": message, "retriable": is_retriable, **extra}
    return JSONResponse(content, status, headers)


def native_shape(error: Exception) -> Response:
    """The answer of the native API to a request that ended in `error`."""
    if isinstance(error, HTTPRefusalError):
        return refusal(error.errors, error.status, error.headers)
    if isinstance(error, ContextLengthError):
        return refusal(error.errors, n_prompt_tokens=error.n_prompt_tokens, n_ctx=error.n_ctx)
    if isinstance(error, RequestError):
        return refusal(error.errors, request_status(error))
    if isinstance(error, InputError):
        return refusal([FieldError("body", "valid input", str(error))])
    if isinstance(error, QueueFullError):
        return failure(
            "queue_full", str(error), status=503, is_retriable=True, retry_after_s=error.retry_after_s
        )
    if isinstance(error, NotReadyError):
        return failure(
            "not_ready",
            str(error),
            status=503,
            is_retriable=True,
            retry_after_s=NOT_READY_RETRY_S,
            stage=error.stage,
        )
    if isinstance(error, GenerationFailedError):
        event = error.event
        return failure(event.code, event.message, status=error.status, is_retriable=event.retriable)
    if isinstance(error, EngineStoppedError):
        return failure("stopped", str(error), status=503, is_retriable=True, retry_after_s=NOT_READY_RETRY_S)
    logger.error("a request failed: %s", type(error).__name__, exc_info=error)
    return failure("internal_error", "the server failed; its log says why")


def outline(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Status, message and headers of the answer to a request that ended in `error`, for APIs that say no more."""
    native = native_shape(error)
    message = str(error) if isinstance(error, LlorchError) else "the server failed; its log says why"
    if isinstance(error, RequestError):  # fields may have been renamed since it was raised
        message = "; ".join(fault.message for fault in error.errors)
    headers = {name: value for name, value in native.headers.items() if not name.startswith("content-")}
    return native.status_code, message, headers


_HTTP_MESSAGES = {
    404: ("path", "a path of this server", "there is nothing at this path; /docs lists what there is"),
    405: (
        "method",
        "a method of this path",
        "this path does not take this method; /docs lists what it takes",
    ),
}


def shape_of(shapes: Mapping[str, ErrorShape], path: str) -> ErrorShape:
    """How errors of `path` look, by the first of `shapes` that it begins with."""
    return next((shape for prefix, shape in shapes.items() if path.startswith(prefix)), native_shape)


def error_response(scope: Scope, error: Exception) -> Response:
    """The answer to the request of `scope`, which ended in `error`: in the shape that belongs to its path."""
    return shape_of(scope["app"].state.error_shapes, scope["path"])(error)


async def _on_error(request: Request, error: Exception) -> Response:
    return error_response(request.scope, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    field, constraint, message = _HTTP_MESSAGES.get(
        error.status_code, ("request", "an acceptable request", str(error.detail))
    )
    refusal = HTTPRefusalError(error.status_code, FieldError(field, constraint, message), error.headers)
    return error_response(request.scope, refusal)


def install_error_handlers(app: FastAPI, shapes: Mapping[str, ErrorShape]) -> None:
    """Answer every error in the shape of its path.

    Args:
        app: the application; middleware finds `shapes` in its state.
        shapes: by the beginning of the path; the first that fits counts.
    """
    app.state.error_shapes = shapes
    app.add_exception_handler(LlorchError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_error)
