"""Closing a connection whose client is still sending, so that the client gets to read the answer.

A socket that is closed with unread bytes in it resets the connection, and the reset can overtake the answer. So the
sending side is closed first, what still comes is thrown away, and the rest is closed when the client has closed, or has
sent too much, or has taken too long. Source: RFC 9112, section 9.6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

DRAIN_BYTES = 8 << 20
"""Most bytes that are thrown away after an answer."""

DRAIN_DEADLINE_S = 2.0
"""A client may go on sending for this long after its answer."""

FLUSH_DEADLINE_S = 30.0
"""A client may take this long to read what it has not read when its connection is closed."""


class LingeringTransport:
    """A transport whose `close` ends after a bound, and lets a client that is still sending read its answer.

    Args:
        transport: of a connection; everything but closing is left to it.
        loop: the event loop of `transport`.
        is_client_sending: asked when the connection is closed.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_client_sending: Callable[[], bool],
    ) -> None:
        self.is_draining = False
        self.write = transport.write
        self._transport = transport
        self._loop = loop
        self._is_client_sending = is_client_sending
        self._n_dropped = 0
        self._deadline: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.is_draining or self._transport.is_closing()

    def close(self) -> None:
        """Send what has been written, then close; a client that is still sending may do so for a while."""
        if self.is_closing():
            return
        if self._is_client_sending():
            self.is_draining = True
            self._abort_after(DRAIN_DEADLINE_S)
            self._transport.resume_reading()
            if not self._transport.can_write_eof():
                return  # TLS has no half-closed connections; the answer says that it is the last
            try:
                self._transport.write_eof()
            except OSError:  # the client has reset the connection
                self._transport.abort()
        else:
            self._abort_after(FLUSH_DEADLINE_S)
            self._transport.close()

    def drop(self, n_bytes: int) -> None:
        """Note bytes that came after the answer."""
        self._n_dropped += n_bytes
        if self._n_dropped > DRAIN_BYTES:
            self._transport.abort()

    def connection_lost(self) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort_after(self, delay_s: float) -> None:
        self._deadline = self._loop.call_later(delay_s, self._transport.abort)
