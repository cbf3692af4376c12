"""`llorch serve`: the HTTP daemon.

The socket is bound before anything is loaded, so that a port in use is one line and not a minute of
waiting. SIGTERM or SIGINT drains: new requests get 503 while running ones finish, at most for the grace
period. A second signal ends the process at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from llorch.cli.console import Progress, human_bytes
from llorch.cli.logs import configure_logging
from llorch.cli.options import add_setting, add_threads, settings_from
from llorch.engine.service import EngineService
from llorch.errors import InputError
from llorch.kernels import paths
from llorch.machine.threads import default_threads
from llorch.open_model import resolve_model_path
from llorch.server.access import is_loopback
from llorch.server.app import create_app
from llorch.version import __version__

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)

FLUSH_S = 5
"""How long connections may take to send their last bytes, once all generations have ended."""

FIRST_RUN_S = 2.0
"""Kernels from the cache are loaded in less; longer means that they are compiled."""


HEADER_DEADLINE_S = 20.0
"""Headers must be whole after this time; uvicorn itself would wait for ever."""


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, closing connections that are opened, or begin a request, and go no further."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request must come soon."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """So must the rest of any other that has begun."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
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
    """uvicorn, with our way of stopping.

    uvicorn closes its sockets first and then waits for streams. Here the first signal drains the engine while
    the sockets are still open, so that new requests are told 503 and /ready says "stopping"; after that there
    is nothing left to wait for.
    """

    def __init__(self, config: uvicorn.Config, service: EngineService) -> None:
        super().__init__(config)
        self._service = service
        self._started_s = time.monotonic()
        self._is_compiling = False
        self._was_ready = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the first signal; the second one does what it does by default: it ends the process."""
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
            signal.signal(number, signal.SIG_DFL)
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: say when the model is ready; end when it cannot be loaded."""
        stage = self._service.stage
        if (
            stage == "compiling"
            and not self._is_compiling
            and time.monotonic() - self._started_s > FIRST_RUN_S
        ):
            self._is_compiling = True
            logger.info("compiling the kernels for this CPU; this happens once")
        if stage == "ready" and not self._was_ready:
            self._was_ready = True
            self._announce()
        return await super().on_tick(counter) or stage == "failed"

    async def main_loop(self) -> None:
        """Serve, then drain."""
        await super().main_loop()
        if self._service.stage != "failed":
            logger.info("stopping: %d requests have %g s to finish", self._service.n_open, self._grace_s)
        await self._service.stop()

    @property
    def _grace_s(self) -> float:
        return self._service.settings.shutdown_grace_s

    def _announce(self) -> None:
        loaded = self._service.loaded
        assert loaded is not None  # it is ready
        n_threads, reason = default_threads()
        if self._service.settings.threads:
            n_threads, reason = self._service.settings.threads, "as set"
        logger.info(
            "%s is ready after %.1f s: %s of weights, %d threads (%s), %s kernels",
            self._service.settings.alias or loaded.name,
            time.monotonic() - self._started_s,
            human_bytes(sum(tensor.n_bytes for tensor in loaded.source.tensors.values())),
            n_threads,
            reason,
            paths.path(),
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command; flags are spelled as llama-server spells them."""
    add_setting(parser, "--host", help="address to listen on (default 127.0.0.1: this machine only)")
    add_setting(parser, "--port", type=int, help="port to listen on (default 8080; 0 takes a free one)")
    add_setting(
        parser,
        "-c",
        "--ctx-size",
        type=int,
        metavar="N",
        help="tokens a sequence may hold (default: as trained)",
    )
    add_setting(
        parser, "-np", "--parallel", type=int, metavar="N", help="sequences computed at the same time"
    )
    add_setting(
        parser, "-n", "--n-predict", type=int, metavar="N", help="max_tokens when a request does not say"
    )
    add_setting(parser, "-b", "--batch-size", type=int, metavar="N", help="most tokens in one forward pass")
    add_threads(parser)
    add_setting(parser, "--api-key", metavar="KEY", help="clients must send it (Authorization: Bearer KEY)")
    add_setting(parser, "--alias", metavar="NAME", help="model name shown to clients")
    add_setting(parser, "--log-format", metavar="FORMAT", help="text (default) or json")
    add_setting(parser, "--log-level", metavar="LEVEL", help="debug, info (default), warning or error")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InputError: the address is not ours, or the port is taken or not allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise InputError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    settings = settings_from(args)
    resolve_model_path(settings.model)
    configure_logging(settings.log_format, settings.log_level)
    listener = bind(settings.host, settings.port)
    with Progress() as progress:
        service = EngineService(settings, progress)
        config = uvicorn.Config(
            create_app(service, settings),
            http=DeadlineProtocol,  # h11 also bounds the size of headers, httptools does not
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=settings.log_level == "debug",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=FLUSH_S,
        )
        logger.info("llorch %s listens on %s; loading %s", __version__, url_of(listener), settings.model)
        if settings.api_key is None and not is_loopback(settings.host):
            logger.warning("anyone who reaches %s can use this server: set an api_key", settings.host)
        Server(config, service).run(sockets=[listener])
    if service.failure is not None:
        raise service.failure
    return 0
