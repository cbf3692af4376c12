"""Listening sockets: one for each address of a host, which pause when the process may open no more files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import time
from collections.abc import Sequence
from typing import Any

from llorch.errors import InputError
from llorch.fields.hosts import is_loopback, socket_path
from llorch.server.unix_socket import bind_unix

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted; also while accepting pauses."""

FILE_RESERVE = 8
"""File descriptors that connections leave free: modules imported late need them, and logs."""

PAUSE_S = 0.5
"""asyncio stops accepting for a second after an error, but first asks the socket `BACKLOG` times again. Those calls get
no new error; the pause must be over when the second is."""

WARNING_INTERVAL_S = 1.0

MAX_PORT_TRIES = 16
"""Free ports that are tried until one is free on every address."""

_ANY_PORT = 0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""IPv6 is compiled out, or switched off."""


class AcceptPausedError(OSError):
    """No connection can be accepted now; the kernel keeps those that come."""


class Listener(socket.socket):
    """A listening socket that says once, and not for each waiting connection, that it cannot accept."""

    _paused_until_s = 0.0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            AcceptPausedError: too many files are open; asyncio then pauses.
            BlockingIOError: no connection waits, or the pause has begun.
        """
        if time.monotonic() < self._paused_until_s:
            raise BlockingIOError(errno.EAGAIN, "accepting pauses")
        try:
            self._check_reserve()
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._paused_until_s = time.monotonic() + PAUSE_S
            raise AcceptPausedError(error.errno, error.strerror) from None

    def _check_reserve(self) -> None:
        """Raise what the kernel would, a few descriptors earlier. It gives out the lowest number that is free."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        lowest_free = os.dup(self.fileno())
        os.close(lowest_free)
        if limit != resource.RLIM_INFINITY and lowest_free >= limit - FILE_RESERVE:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class LoopErrors:
    """The event loop's exception handler: a pause in accepting is a line of the log, at most one a second."""

    def __init__(self) -> None:
        self._warned_s = -WARNING_INTERVAL_S

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what the loop could give to nobody."""
        error = context.get("exception")
        if not isinstance(error, AcceptPausedError):
            loop.default_exception_handler(context)
            return
        if time.monotonic() - self._warned_s >= WARNING_INTERVAL_S:
            self._warned_s = time.monotonic()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            logger.warning(
                "new connections wait: %s (this process may open %d files; ulimit -n raises that)",
                error.strerror,
                limit,
            )


def bind(host: str, port: int, socket_mode: str = "600") -> list[Listener]:
    """A listening socket for every address that `host` has here, all on one port; or one Unix socket.

    An address of a family that this machine does not have is left out, if there is another one.

    Args:
        host: name or address, or what `socket_path` finds a path in.
        port: 0: any free one.
        socket_mode: permissions of a Unix socket, as octal digits.

    Raises:
        InputError: the name has no address, none is ours, or the port is taken or not allowed on one of them; or there
            can be no Unix socket at the path.
    """
    if (path := socket_path(host)) is not None:
        return [bind_unix(path, int(socket_mode, 8), Listener)]
    try:
        # An address may come twice: /etc/hosts often lists one on several lines.
        found = dict.fromkeys(
            (family, address)
            for family, _, _, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )
    except (OSError, ValueError) as error:  # UnicodeError and "embedded null character" are ValueErrors
        raise _refusal(host, port, _reason(error)) from None
    for _ in range(MAX_PORT_TRIES):
        try:
            return _bind_all([*found], port)
        except OSError as error:
            failure = error
        if port != _ANY_PORT or failure.errno != errno.EADDRINUSE:
            break
    raise _refusal(host, port, _reason(failure))


def _bind_all(addresses: Sequence[tuple[int, Any]], port: int) -> list[Listener]:
    """One listener for each address; the first one's port counts for all."""
    skipped: OSError | None = None
    listeners: list[Listener] = []
    with contextlib.ExitStack() as undo:
        for family, address in addresses:
            if listeners and port == _ANY_PORT:
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            try:
                listeners.append(undo.enter_context(_bind_one(family, address, len(addresses) > 1)))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                skipped = skipped or error
        if not listeners:
            assert skipped is not None  # getaddrinfo gives an address or raises
            raise skipped
        undo.pop_all()
    return listeners


def _bind_one(family: int, address: Any, is_one_of_several: bool) -> Listener:
    with contextlib.ExitStack() as undo:
        # asyncio sets TCP_NODELAY only where the protocol is named; without it, a body waits 40 ms behind its head.
        listener = undo.enter_context(Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and is_one_of_several:  # or it would take the IPv4 port, too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        undo.pop_all()
    return listener


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{error.strerror}; --port N takes another, --port 0 any that is free"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "this is no host name"


def _refusal(host: str, port: int, reason: str) -> InputError:
    shown = host if host.isascii() and host.isprintable() and len(host) < 80 else ascii(host)[:80]
    return InputError(f"cannot listen on {shown} port {port}: {reason}")


def urls_of(listeners: Sequence[socket.socket], scheme: str = "http") -> list[str]:
    """What to type into a browser on this machine, for each listener; of a Unix socket, its path."""
    urls = []
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            urls.append(f"unix:{listener.getsockname()}")
            continue
        host, port = listener.getsockname()[:2]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        urls.append(f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}")
    return urls


def are_local(listeners: Sequence[socket.socket]) -> bool:
    """Whether only this machine, and any web page in its browsers, can reach `listeners`."""
    return all(
        listener.family != socket.AF_UNIX and is_loopback(listener.getsockname()[0]) for listener in listeners
    )
