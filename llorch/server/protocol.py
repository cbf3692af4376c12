"""HTTP/1.1 with bounds: what a client may send, how long it may take, and what becomes of one that closes half.

uvicorn's protocol on h11 does the work. A client that has closed its sending side counts as gone to whatever waits for
it: its generation is aborted. An answer that needs no waiting is still sent.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

import h11
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from llorch.errors import FieldError
from llorch.observe.request_scope import HEADER, request_id_from
from llorch.server.errors import refusal
from llorch.server.linger import LingeringTransport

logger = logging.getLogger(__name__)

HEADER_DEADLINE_S = 20.0
"""Headers must be whole after this time; uvicorn itself would wait for ever."""

MAX_HEAD_BYTES = 32768
"""Longest request line with all its headers. h11 has this limit for a head that comes in pieces."""

MAX_HEADERS = 100

SLICE_BYTES = 16384
"""h11 is fed so many bytes at a time, because it first looks at its limit when it has parsed what it got."""

PIECES = "llorch.pieces"
"""Where the scope of a request has its `PieceWriter`."""

_AFTER_STREAM_S = 5.0
_CLOSE = (b"connection", b"close")
_UNFINISHED = (h11.IDLE, h11.SEND_BODY, h11.ERROR)
"""States of a client whose request is not whole."""


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, closing connections whose clients take too long, send too much, or leave.

    Args:
        args: uvicorn's.
        send_timeout_s: a client that lets an answer wait for longer is cut off.
        options: uvicorn's.
    """

    def __init__(self, *args: Any, send_timeout_s: float = 30.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self._send_timeout_s = send_timeout_s
        self._has_eof = False
        self._deadline: asyncio.TimerHandle | None = None
        self._send_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        self._lingering = LingeringTransport(transport, self.loop, self._is_client_sending)
        self._inner = cast(ASGIApp, self.app)
        self.app = self._answer
        super().connection_made(cast(asyncio.Transport, self._lingering))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a request that has begun; cancel it when the headers are whole."""
        if self._lingering.is_draining:
            self._lingering.drop(len(data))
            return
        for start in range(0, len(data), SLICE_BYTES):
            super().data_received(data[start : start + SLICE_BYTES])
            if self.transport.is_closing():
                self._cancel()
                return
        self._read_on()
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection if it has an answer to send; whatever waits for the client is told that it left."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.conn.their_state in _UNFINISHED:
            return False
        if not self._lingering.can_write_eof():  # asyncio ends a TLS connection whatever is answered here
            return False
        self._has_eof = True
        cycle.keep_alive = self._has_more()
        cycle.message_event.set()
        return True

    def on_response_complete(self) -> None:
        """Go on with the next request, if there is or can be one."""
        if self._has_eof and not self._has_more():
            self.transport.close()
        super().on_response_complete()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        self._lingering.connection_lost()
        super().connection_lost(exc)
        self._cancel()
        self._cancel_send()

    def pause_writing(self) -> None:
        """Start the deadline of a client that does not read. A stream has its own, which is to come first."""
        super().pause_writing()
        self._cancel_send()
        delay_s = self._send_timeout_s + _AFTER_STREAM_S
        self._send_deadline = self.loop.call_later(delay_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the deadline of a client that reads again."""
        super().resume_writing()
        self._cancel_send()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or too much of it, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            is_too_long = len(self.conn.trailing_data[0]) > MAX_HEAD_BYTES
            answer = _too_long() if is_too_long else refusal([FieldError("request", "HTTP/1.1", msg)])
            status = HTTPStatus(answer.status_code)
            headers = [*answer.raw_headers, _CLOSE, _new_id(answer.status_code)]
            head = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the connection ends with an answer that comes before the whole body."""
        cycle = self.cycle
        has_whole_body = False
        pieces = scope[PIECES] = PieceWriter(self, cycle)

        async def receive_until_eof() -> Message:
            nonlocal has_whole_body
            if not (has_whole_body and self._has_eof):
                message = await receive()
                if not (has_whole_body and self._has_eof):
                    has_whole_body = not message.get("more_body", False)
                    return message
            return {"type": "http.disconnect"}

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                pieces.has_chunks = _has_chunks(scope, message)
                more = [_CLOSE] if is_refused or self.conn.their_state is h11.SEND_BODY else []
                more += [_new_id(message["status"])] if is_refused else []
                message = {**message, "headers": [*message.get("headers", ()), *more]} if more else message
            elif pieces.has_chunks and message.get("more_body"):
                if self.flow.write_paused and not cycle.disconnected:
                    await self.flow.drain()
                pieces.write(message["body"])
                return
            await send(message)

        is_refused = _is_too_long(scope)
        app: ASGIApp = _too_long() if is_refused else self._inner
        await app(scope, receive_until_eof, send_and_close)
        # The application saw that the client has left, or gave up waiting until it reads: no fault of the application.
        if not cycle.response_complete and (self._has_eof or self.flow.write_paused):
            cycle.disconnected = True
            self.transport.close()

    def _should_upgrade(self) -> bool:
        """Answer in HTTP/1.1, and do not warn: Java's HttpClient offers HTTP/2 with every request."""
        return False

    def _is_client_sending(self) -> bool:
        """Whether there may be unread bytes in the socket, or more to come."""
        is_unread = self.conn.their_state in (h11.SEND_BODY, h11.ERROR) or bool(self.conn.trailing_data[0])
        return is_unread and not self._has_eof

    def _has_more(self) -> bool:
        """Whether anything but empty lines stands behind the request."""
        return bool(self.conn.trailing_data[0].strip())

    def _read_on(self) -> None:
        """Read while an answer is made, or nobody would see that the client leaves.

        uvicorn stops at the first byte behind the request, and be it a stray line feed.
        """
        is_behind = self.flow.read_paused and self.conn.their_state not in _UNFINISHED
        if is_behind and len(self.conn.trailing_data[0]) <= MAX_HEAD_BYTES:
            self.flow.resume_reading()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the headers are whole
            self._cancel()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_DEADLINE_S, self.transport.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cancel_send(self) -> None:
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None


class PieceWriter:
    """Writes pieces of an answer's body, when its head has been sent: at once, and past all middleware.

    No middleware looks at pieces, and each would take the event loop some microseconds for each token.

    Attributes:
        has_chunks: whether the body is sent in chunks; False until the head is.
    """

    def __init__(self, protocol: BoundedProtocol, cycle: RequestResponseCycle) -> None:
        """Set up for the answer of `cycle`."""
        self.has_chunks = False
        self._protocol = protocol
        self._cycle = cycle

    @property
    def can_write(self) -> bool:
        """Whether `write` may be called: the client has read enough of what was written before."""
        return self.has_chunks and not self._protocol.flow.write_paused

    def write(self, body: bytes) -> None:
        """Send a piece if the client is still there: the bytes that h11 would send, without its 8 µs for each token.

        A connection that has failed says so once; asyncio logs a warning for each further piece that is written to it.
        """
        protocol = self._protocol
        is_there = not self._cycle.disconnected and not protocol.transport.is_closing()
        if body and is_there and protocol.conn.our_state is h11.SEND_BODY:
            protocol.transport.write(b"%x\r\n%b\r\n" % (len(body), body))


def _has_chunks(scope: Scope, start: Message) -> bool:
    """Whether h11 sends the body of this answer in chunks."""
    has_length = any(name.lower() == b"content-length" for name, _ in start.get("headers", ()))
    has_body = scope["method"] != "HEAD" and start["status"] not in (204, 304)
    return scope["http_version"] == "1.1" and has_body and not has_length


def _is_too_long(scope: Scope) -> bool:
    """Whether a head that came in one piece is one that h11 would refuse in several."""
    headers = scope["headers"]
    n_bytes = len(scope["raw_path"]) + len(scope["query_string"])
    n_bytes += sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
    return n_bytes > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS


def _new_id(status: int) -> tuple[bytes, bytes]:
    """A header with an id for a request that no application sees, which a line of the log has, too."""
    request_id = request_id_from(())
    logger.info("refused before it was read: %d", status, extra={"request_id": request_id})
    return HEADER.lower().encode(), request_id.encode()


def _too_long() -> Response:
    rule = f"at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers"
    message = f"the request line and the headers are too long: expected {rule}"
    return refusal([FieldError("headers", rule, message)], 431)
