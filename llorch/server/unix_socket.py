"""Unix sockets: taking the place of a dead server, never of a living one, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from typing import TypeVar

from llorch.errors import InputError
from llorch.formats.printed import printable

BACKLOG = 2048
MAX_PATH_BYTES = 107
"""Of `sun_path` on Linux, without its end."""

_LISTENS = (0, errno.EAGAIN)
"""What connecting to a socket with a listener ends with; its queue may be full."""

S = TypeVar("S", bound=socket.socket)


def bind_unix(path: str, mode: int, kind: type[S]) -> S:
    """A listening socket of class `kind` at `path`. One that is there and has no listener is replaced.

    Args:
        path: of the socket; its folder must exist.
        mode: who may connect, as permissions of the file.
        kind: class of the socket.

    Raises:
        InputError: somebody listens there, something else is there, or the folder lets no socket be made.
    """
    try:
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise InputError(
                f"cannot listen on {printable(path)}: the path has more than {MAX_PATH_BYTES} bytes"
            )
        with _alone_in(os.path.dirname(path) or "."):
            _make_way(path)
            return _bind(path, mode, kind)
    except OSError as error:
        raise InputError(f"cannot listen on {printable(path)}: {error.strerror or error}") from None
    except ValueError as error:  # a NUL character
        raise InputError(f"cannot listen on {path!a}: {error}") from None


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Keep other servers from making way at the same time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_way(path: str) -> None:
    """Remove a socket that a dead server has left."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "something that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        code = caller.connect_ex(path)
    if code != errno.ECONNREFUSED:
        raise OSError(
            errno.EADDRINUSE, "another process listens there" if code in _LISTENS else os.strerror(code)
        )
    os.unlink(path)


def _bind(path: str, mode: int, kind: type[S]) -> S:
    with contextlib.ExitStack() as undo:
        listener = kind(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.enter_context(listener)
        before = os.umask(0o777 & ~mode)  # so that nobody can connect between two calls; no thread runs yet
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        undo.pop_all()
    return listener


@contextlib.contextmanager
def removed_at_exit(listeners: Iterable[socket.socket]) -> Iterator[None]:
    """Remove the Unix sockets among `listeners` in the end, unless something else has taken their place."""
    paths = [listener.getsockname() for listener in listeners if listener.family == socket.AF_UNIX]
    identities = {path: _identity(path) for path in paths}
    try:
        yield
    finally:
        for path, identity in identities.items():
            with contextlib.suppress(OSError):
                if _identity(path) == identity:
                    os.unlink(path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
