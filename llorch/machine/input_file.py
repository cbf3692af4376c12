"""Files that a user names, opened without waiting for ever."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

PIPE_WAIT_S = 10.0
"""How long a named pipe may be without content. A shell's `<(command)` has no limit: its other end is there."""


@contextmanager
def opened_input(path: Path) -> Iterator[BufferedReader]:
    """Open a file, a device or a pipe for reading; it is closed behind the body.

    Args:
        path: where it is.

    Raises:
        OSError: it cannot be opened, is a directory or a socket, or is a named pipe into which nobody writes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a named pipe waits here for its writer
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.ENXIO, "it is a socket; a file was expected", str(path)) from None
        raise
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISFIFO(status.st_mode) and not _is_anonymous(status):
            _wait_for_content(descriptor, path)
        os.set_blocking(descriptor, True)
        yield file


def _is_anonymous(pipe: os.stat_result) -> bool:
    """Whether a pipe has no name in a folder: all of those are on one device."""
    ends = os.pipe()
    try:
        return os.fstat(ends[0]).st_dev == pipe.st_dev
    finally:
        for end in ends:
            os.close(end)


def _wait_for_content(descriptor: int, path: Path) -> None:
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    if not ready.poll(PIPE_WAIT_S * 1e3):
        why = f"it is a named pipe, and nothing was written into it for {PIPE_WAIT_S:.0f} s"
        raise OSError(errno.ETIMEDOUT, why, str(path))
