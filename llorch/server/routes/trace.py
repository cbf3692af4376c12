"""`POST /trace/start` and `POST /trace/stop`: a timeline of the running server, for whoever runs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llorch.errors import LlorchError
from llorch.fields.field import Field
from llorch.fields.kinds import BOOLEAN, integer, number, text
from llorch.server.body import check_fields, object_schema, read_json_object
from llorch.server.live_traces import LiveTraces
from llorch.server.openapi import POSTED, json_body, properties, refusals
from llorch.server.routes.generate import NATIVE_ERRORS
from llorch.trace.conversion import file_parts
from llorch.trace.live_recorder import TraceLimits

logger = logging.getLogger(__name__)

router = APIRouter(tags=["trace"])

START, STOP = "/trace/start", "/trace/stop"
PATHS = frozenset({START, STOP})
"""They need an admin key."""

_START = {
    "max_seconds": Field(
        "max_seconds", number(0, 600, excludes_low=True), 10.0, words="the trace ends by itself after so long"
    ),
    "max_steps": Field(
        "max_steps", integer(1, 100_000), 10_000, words="and after so many steps of the engine"
    ),
    "operations": Field(
        "operations",
        BOOLEAN,
        True,
        words="show every operation of every step; without them a trace may be long, and shows requests and counters",
    ),
}
_STOP = {
    "trace_id": Field(
        "trace_id",
        text("a string of 1 to 64 characters", "^.{1,64}$"),
        None,
        words="the trace that is meant, as /trace/start named it; without it, whichever there is",
    )
}


@router.post(
    START,
    summary="Begin a timeline of the running engine",
    responses={
        200: {
            "description": "It is being taken",
            "content": {
                "application/json": {
                    "schema": properties(
                        trace_id="string", max_seconds="number", max_steps="integer", operations="boolean"
                    )
                }
            },
        },
        **refusals((*POSTED, 409), NATIVE_ERRORS),
    },
    openapi_extra=json_body(object_schema(_START), required=False),
)
async def start(request: Request) -> dict[str, Any]:
    """It ends at the first of its limits, or with `POST /trace/stop`, which answers it."""
    traces: LiveTraces = request.app.state.traces
    given = check_fields(await _body(request), _START)
    values = {name: given.get(name, field.default) for name, field in _START.items()}
    limits = TraceLimits(float(values["max_seconds"]), values["max_steps"], values["operations"])
    trace = await traces.start(limits)
    return {"trace_id": trace.trace_id, **values}


@router.post(
    STOP,
    summary="End the timeline, and get it",
    responses={
        200: {
            "description": "A file for https://ui.perfetto.dev, compressed if the client takes gzip",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **refusals((*POSTED, 409), NATIVE_ERRORS),
    },
    openapi_extra=json_body(object_schema(_STOP), required=False),
)
async def stop(request: Request) -> Response:
    """The file is made while it is sent, by another process. It is answered once, whether it arrives or not."""
    traces: LiveTraces = request.app.state.traces
    trace_id = check_fields(await _body(request), _STOP).get("trace_id")
    trace = await traces.stop(trace_id)
    is_gzip = _takes_gzip(request.headers.get("accept-encoding", ""))
    parts = file_parts(trace.messages(), is_gzip=is_gzip)
    first = await anext(parts)
    return _TraceFile(first, parts, trace.trace_id, is_gzip)


async def _body(request: Request) -> dict[str, Any]:
    """The fields of the body; a request without one says nothing."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    return await read_json_object(request, request.app.state.service.settings.max_body_bytes)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip."""
    for entry in accepted.lower().split(","):
        name, _, quality = entry.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


class _TraceFile(Response):
    """A file that is sent as it is made.

    Args:
        first: its first part.
        parts: the others; closed when the answer is over, however it ends.
        trace_id: names the file.
        is_gzip: whether it is compressed.
    """

    def __init__(
        self, first: bytes, parts: AsyncGenerator[bytes, None], trace_id: str, is_gzip: bool
    ) -> None:
        self._first = first
        self._parts = parts
        headers = {
            "Content-Disposition": f'attachment; filename="llorch-trace-{trace_id}.json"',
            "Vary": "Accept-Encoding",
        }
        if is_gzip:
            headers["Content-Encoding"] = "gzip"
        super().__init__(None, headers=headers, media_type="application/json")
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; a client that leaves ends it quietly, and so does the protocol if the client does not read."""
        async with aclosing(self._parts), _left(receive) as left:
            head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(head)
            part: bytes | None = self._first
            while part is not None and not left.is_set():
                await send({"type": "http.response.body", "body": part, "more_body": True})
                try:
                    part = await anext(self._parts, None)
                except LlorchError as error:
                    logger.error("a trace breaks off: %s", error)
                    return  # which cuts the connection: the client shall not take it for whole
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def _left(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the client leaves."""
    left = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    task = asyncio.create_task(watch())
    try:
        yield left
    finally:
        task.cancel()
