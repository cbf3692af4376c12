"""A model file in memory: mapped for reading, and watched for changes that would show through."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import weakref
from pathlib import Path

from llorch.errors import ModelError
from llorch.formats.printed import printable

_PIECE_BYTES = 1 << 20


class MappedFile:
    """A regular file, mapped for reading.

    Attributes:
        path: where it was.
        n_bytes: size of the file.
        bytes: the map; whoever holds it keeps the file mapped.
    """

    def __init__(self, path: Path, expected: str, error: type[ModelError] = ModelError) -> None:
        """Map the file.

        Pipes, devices and directories are refused before they are opened, so opening never blocks.

        Args:
            path: of the file.
            expected: what it should be, for messages, e.g. ``"a GGUF file"``.
            error: what is raised.

        Raises:
            ModelError: of the type `error`; `path` is missing, unreadable, empty, or not a regular file.
        """
        self.path = path
        self._expected, self._error = expected, error
        try:
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode):
                raise error(f"{printable(path)}: is {_kind(mode)}; {expected} was expected")
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags)
            self._close = weakref.finalize(self, os.close, self._descriptor)
            try:
                self._map()
            except BaseException:
                self._close()
                raise
        except OSError as fault:
            raise error(f"{printable(path)}: cannot be opened: {fault.strerror or fault}") from fault
        except ValueError as fault:
            raise error(f"{printable(path)}: is not a usable path: {fault}") from fault

    def _map(self) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):  # replaced after `stat`
            raise self._error(
                f"{printable(self.path)}: is {_kind(status.st_mode)}; {self._expected} was expected"
            )
        if status.st_size == 0:
            raise self._error(f"{printable(self.path)}: is empty; {self._expected} was expected")
        self.n_bytes, self._modified_ns = status.st_size, status.st_mtime_ns
        self.bytes = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)

    def changed(self) -> str | None:
        """What has happened to the mapped file since it was opened; None if nothing has, or it is closed.

        The file itself is asked, not its path: another file that was renamed to the path does no harm to this one.
        """
        if not self._close.alive:
            return None
        name = printable(Path(self.path.name))
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            return f"{name} cannot be looked at any more: {error.strerror or error}"
        if status.st_size != self.n_bytes:
            return f"{name} had {self.n_bytes} bytes and now has {status.st_size}"
        return f"{name} was written to" if status.st_mtime_ns != self._modified_ns else None

    def hash_into(self, digest: hashlib._Hash) -> None:
        """Feed the file to `digest`, through its descriptor: its pages do not become this process's memory.

        Raises:
            ModelError: it cannot be read, or is closed.
        """
        try:
            if not self._close.alive:
                raise self._error(f"{printable(self.path)}: is closed")
            descriptor = os.dup(self._descriptor)
            try:
                offset = 0
                while piece := os.pread(descriptor, _PIECE_BYTES, offset):
                    digest.update(piece)
                    offset += len(piece)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._error(f"{printable(self.path)}: cannot be read: {error.strerror or error}") from error

    def forget_pages(self) -> None:
        """Release the pages read so far from this process's memory; views stay valid."""
        if hasattr(self.bytes, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self.bytes.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Watch no longer; unmap the file, now or when its last view is gone. A second call does nothing."""
        self._close()
        with contextlib.suppress(BufferError):  # views exist: the last one unmaps the file
            self.bytes.close()


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    return "a socket" if stat.S_ISSOCK(mode) else "a special file"
