"""Server-sent events: one frame per engine event, comments while there is silence, clean ends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.types import Message, Receive, Scope, Send

# On SIGTERM sse-starlette would cut every stream at once. Ours end by themselves: the server lets them
# finish, and after its grace period the engine aborts what is left, with an `end` event.
AppStatus.enable_automatic_graceful_drain = False


_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""Line ends to Unicode but not to server-sent events: clients that split lines the Unicode way (httpx does) would
break an event there, so they travel as JSON escapes. JSON escapes the other ones itself."""


def frame(payload: dict[str, object]) -> bytes:
    """One event: named by the payload's `type`, with the payload as its data."""
    data = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {payload['type']}\ndata: {data.translate(_LINE_ENDS)}\n\n".encode()


def _keep_alive() -> ServerSentEvent:
    return ServerSentEvent(comment="keep-alive", sep="\n")


class EventStream(EventSourceResponse):
    """A `text/event-stream` response that says when its client is gone.

    Args:
        frames: the events; closed when the client leaves.
        on_leave: called when the client leaves. It must be idempotent and is needed beside the generator's
            own `finally`, which never runs when the client leaves before the first event was asked for
            (sse-starlette issue 156).
        keep_alive_s: a comment line is sent this often.
        send_timeout_s: a client that takes nothing for this long is dropped.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        on_leave: Callable[[], None],
        *,
        keep_alive_s: float,
        send_timeout_s: float,
    ) -> None:
        async def on_close(message: Message) -> None:
            on_leave()

        super().__init__(
            frames,
            ping=keep_alive_s,
            ping_message_factory=_keep_alive,
            sep="\n",
            send_timeout=send_timeout_s,
            client_close_handler_callable=on_close,
        )
        self._on_leave = on_leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; a client that reads nothing ends it quietly."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            self._on_leave()
