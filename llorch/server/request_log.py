"""Each HTTP request gets an id, and when it is over, a line of the log, a count, and a span where there are traces."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llorch.observe.request_scope import HEADER, RequestScope, current_scope, request_id_from
from llorch.server.access import OPEN_PATHS, owner_of
from llorch.server.metrics.http_counts import CLIENT_LEFT, HTTPCounts, method_of, route_of
from llorch.server.routes.metrics import PATH as METRICS
from llorch.server.tracing import Tracing

logger = logging.getLogger(__name__)

_QUIET = OPEN_PATHS | {METRICS}
"""Machines ask for these all day long: lines of level debug."""


class _Answer:
    """Sends an answer, with the id in its head, and sees how far it came."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.status: int | None = None
        self.is_whole = False
        self._send = send
        self._request_id = request_id

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[HEADER] = self._request_id
        elif not message.get("more_body", False):
            self.is_whole = True
        await self._send(message)


class RequestLog:
    """What stands around everything else of an application, so that refusals and failures have an id, too.

    Args:
        app: gets every request.
        counts: of finished requests.
        tracing: makes spans, if they are wanted.
    """

    def __init__(self, app: ASGIApp, counts: HTTPCounts, tracing: Tracing | None = None) -> None:
        self.app = app
        self._tracing = tracing
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = RequestScope(request_id_from(Headers(scope=scope).getlist(HEADER)))
        answer = _Answer(send, request.id)
        begun_s = time.monotonic()
        token = current_scope.set(request)
        if self._tracing is not None and scope["path"] not in _QUIET and scope["method"] != "OPTIONS":
            self._tracing.begin(scope, request)
        try:
            await self.app(scope, receive, answer.send)
        except Exception:
            if not answer.is_whole:  # else it has been answered and logged, and Starlette raises it again
                raise
        finally:
            self._note(scope, request, answer, time.monotonic() - begun_s)
        current_scope.reset(
            token
        )  # not after an exception: what the server says about that shall bear the id

    def _note(self, scope: Scope, request: RequestScope, answer: _Answer, duration_s: float) -> None:
        method, route = method_of(scope), route_of(scope)
        status = CLIENT_LEFT if answer.status is None else answer.status
        self._counts.add(method, route, status)
        if self._tracing is not None:
            self._tracing.end(request, method, route, status)
        extra: dict[str, object] = {
            "method": method,
            "route": route,
            "status": status,
            "duration_s": round(duration_s, 4),
            "owner": owner_of(scope),
            "job_id": ",".join(request.job_ids),
        }
        # Where a generation was accepted, its own line says that the client has left.
        is_quiet = scope["path"] in _QUIET or (request.job_ids and not answer.is_whole)
        logger.log(
            logging.DEBUG if is_quiet else logging.INFO,
            "%s %s %d in %.3f s%s%s",
            method,
            route,
            status,
            duration_s,
            f" for {extra['owner']}" if extra["owner"] else "",
            "" if answer.is_whole else ", client left",
            extra={name: value for name, value in extra.items() if value != ""},
        )
