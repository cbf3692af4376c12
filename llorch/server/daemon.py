"""The HTTP daemon: a listening socket, deadlines for headers, and a stop that lets generations finish.

SIGTERM or SIGINT drains: new requests get 503 while running ones finish, at most for the grace period. A second
signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from llorch.engine.service import EngineService
from llorch.errors import InputError
from llorch.server.app import create_app

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

FLUSH_S = 5
"""How long connections may take to send their last bytes, once all generations have ended."""

HEADER_DEADLINE_S = 20.0
"""Headers must be whole after this time; uvicorn itself would wait for ever."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, closing connections whose headers are not whole in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a request that has begun; cancel it when the headers are whole."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        super().connection_lost(exc)
        self._cancel()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the headers are whole
            self._cancel()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_DEADLINE_S, self.transport.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """uvicorn with another way to stop.

    uvicorn closes its sockets first and then waits for streams. Here the first signal drains the engine while
    the sockets are still open, so that new requests get 503 and /ready says "stopping".
    """

    def __init__(self, config: uvicorn.Config, service: EngineService, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._was_ready = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the first signal; the second one ends the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ask the main loop to end."""
        for number in SIGNALS:
            signal.signal(number, _end_now)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: say when the model is ready; end when it cannot be loaded."""
        stage = self._service.stage
        if stage == "ready" and not self._was_ready:
            self._was_ready = True
            self._on_ready()
        return await super().on_tick(counter) or stage == "failed"

    async def main_loop(self) -> None:
        """Serve, then drain."""
        await super().main_loop()
        if self._service.stage != "failed":
            grace_s = self._service.settings.shutdown_grace_s
            logger.info("stopping: %d requests have %g s to finish", self._service.n_open, grace_s)
        await self._service.stop()


def _end_now(number: int, frame: FrameType | None) -> None:
    """End the process as if nobody had handled the signal, which the kernel does not do to a container's process 1."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InputError: the address is not ours, or the port is taken or not allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(socket.socket(family, kind))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
            undo.pop_all()
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def run_daemon(service: EngineService, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve on `listener` until a signal comes or the model cannot be loaded.

    Args:
        service: started and stopped here.
        listener: from `bind`.
        on_ready: called once, when requests are taken.
    """
    config = uvicorn.Config(
        create_app(service),
        http=DeadlineProtocol,  # h11 also bounds the size of headers, httptools does not
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=service.settings.log_level == "debug",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=FLUSH_S,
    )
    Server(config, service, on_ready).run(sockets=[listener])
