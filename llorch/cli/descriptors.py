"""Standard streams as the parent hands them on: closed, full, without a reader, or never to be waited for.

Nothing is imported that takes long.
"""

from __future__ import annotations

import io
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

closed: set[str] = set()
"""Which of "stdin", "stdout" and "stderr" the parent has closed."""


def open_missing() -> None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise the next file to be opened would get its number, and what a library writes to descriptor 1 or 2 would
    end up in it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            closed.add(name)
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


class _Output(io.FileIO):
    """A standard stream that writes all it is given, and whose failures name it.

    It is waited for also where another program has switched waiting off (O_NONBLOCK) for a terminal they share.
    """

    stream_name = "stdout"

    def write(self, data: Any, /) -> int:
        """Write `data`, which is like `bytes`; returns its number of bytes.

        Raises:
            OSError: it cannot be written, for example because a disk is full.
        """
        rest = memoryview(data).cast("B")
        n_bytes = len(rest)
        try:
            while rest:
                if n_written := super().write(rest):
                    rest = rest[n_written:]
                else:
                    select.select([], [self], [])
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.stream_name) from None
        return n_bytes


class _Messages(_Output):
    """stderr: what cannot be written there is lost, and the work goes on."""

    def write(self, data: Any, /) -> int:
        """Write `data`, or throw it away; returns its number of bytes."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_robust() -> None:
    """Open stdout and stderr anew, so that writing fails in a way that a command can tell its user, or not at all.

    Progress bars, logs, warnings and usage errors are beside the result: a full disk under stderr, or a reader of it
    who has left, must not end the work whose result goes to stdout.
    """
    sys.stdout = _opened(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _opened(_Messages(2, "w", closefd=False), sys.stderr)


def _opened(raw: _Output, before: TextIO) -> TextIO:
    """A text stream on `raw` that is buffered as `before` is."""
    assert isinstance(before, io.TextIOWrapper)
    buffer: Any = raw if before.write_through else io.BufferedWriter(raw)  # the first: `python -u`
    return io.TextIOWrapper(
        buffer,
        before.encoding,
        before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
