"""The HTTP daemon: what ties listening sockets, protocol and application together, and lets generations finish.

SIGTERM or SIGINT drains: new requests get 503 while running ones finish, at most for the grace period. A second
signal ends the process at once. SIGHUP has API keys and certificate read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import cast

import uvicorn

from llorch.engine.service import EngineService
from llorch.machine.service_manager import notify
from llorch.server.app import create_app
from llorch.server.listen import BACKLOG, LoopErrors, are_local
from llorch.server.protocol import MAX_HEAD_BYTES, BoundedProtocol
from llorch.server.reload import Reloader, has_terminal
from llorch.server.tls import Certificate

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

FLUSH_S = 5
"""How long connections may take to send their last bytes, once all generations have ended."""


class Server(uvicorn.Server):
    """uvicorn with another way to stop.

    uvicorn closes its sockets first and then waits for streams. Here the first signal drains the engine while
    the sockets are still open, so that new requests get 503 and /ready says "stopping".
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: EngineService,
        on_ready: Callable[[], None],
        reloader: Reloader,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._reloader = reloader
        self._has_hangup = False
        self._ends_with_terminal = has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._was_ready = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the first signal; the second one ends the process. SIGHUP may come as often as it likes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._note_hangup)
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

    def _note_hangup(self, number: int, frame: FrameType | None) -> None:
        self._has_hangup = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: say when the model is ready; end when it cannot be loaded; act on SIGHUP."""
        stage = self._service.stage
        if stage == "ready" and not self._was_ready:
            self._was_ready = True
            self._on_ready()
        if self._has_hangup:
            self._has_hangup = False
            if self._ends_with_terminal and not has_terminal():
                self.handle_exit(signal.SIGHUP, None)
            else:
                self._reloader.begin()
        return await super().on_tick(counter) or stage == "failed"

    async def main_loop(self) -> None:
        """Serve, then drain."""
        await super().main_loop()
        if self._service.stage != "failed":
            notify("STOPPING=1", f"STATUS={self._service.n_open} requests have to end")
            grace_s = self._service.settings.shutdown_grace_s
            logger.info("stopping: %d requests have %g s to finish", self._service.n_open, grace_s)
        await self._service.stop()


def _end_now(number: int, frame: FrameType | None) -> None:
    """End the process as if nobody had handled the signal, which the kernel does not do to a container's process 1."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def run_daemon(
    service: EngineService,
    listeners: Sequence[socket.socket],
    on_ready: Callable[[], None],
    certificate: Certificate | None = None,
) -> None:
    """Serve on `listeners` until a signal comes or the model cannot be loaded.

    The model may still be compiled on a thread when this returns: the process has to end by `os._exit`.

    Args:
        service: started and stopped here.
        listeners: from `bind`.
        on_ready: called once, when requests are taken.
        certificate: makes the server speak TLS.
    """
    service.compiler_wait_s = 0.5
    protocol = partial(BoundedProtocol, send_timeout_s=service.settings.send_timeout_s)
    app = create_app(service, is_local=are_local(listeners))
    config = uvicorn.Config(
        app,
        http=cast(type[BoundedProtocol], protocol),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        loop="asyncio",  # `Listener` and half-closed connections rely on how it accepts and reads
        backlog=BACKLOG,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # `RequestLog` has it
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=FLUSH_S,
    )
    config.load()
    settings = service.settings
    reloads = [app.state.keys.reload] if settings.api_key_file else []
    reloads += [app.state.admin_keys.reload] if settings.admin_key_file else []
    if certificate is not None:
        config.ssl = certificate.context
        reloads.append(certificate.reload)
    Server(config, service, on_ready, Reloader(reloads)).run(sockets=[*listeners])
