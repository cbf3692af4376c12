"""A model file in memory: mapped for reading, and watched for changes that would show through."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import weakref
from pathlib import Path

from llorch.errors import GGUFError
from llorch.formats.gguf.reader import printable


class MappedFile:
    """A regular file, mapped for reading.

    Attributes:
        path: where it was.
        bytes: the map; whoever holds it keeps the file mapped.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Pipes, devices and directories are refused before they are opened, so opening never blocks.

        Raises:
            GGUFError: `path` is missing, unreadable, empty, or not a regular file.
        """
        self.path = path
        try:
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode):
                raise GGUFError(f"{printable(path)}: is {_kind(mode)}; a .gguf file was expected")
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags)
            self._close = weakref.finalize(self, os.close, self._descriptor)
            try:
                self._map()
            except BaseException:
                self._close()
                raise
        except OSError as error:
            raise GGUFError(f"{printable(path)}: cannot be opened: {error.strerror or error}") from error
        except ValueError as error:
            raise GGUFError(f"{printable(path)}: is not a usable path: {error}") from error

    def _map(self) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):  # replaced after `stat`
            raise GGUFError(f"{printable(self.path)}: is {_kind(status.st_mode)}; a .gguf file was expected")
        if status.st_size == 0:
            raise GGUFError(f"{printable(self.path)}: is empty; a GGUF file was expected")
        self._size, self._modified_ns = status.st_size, status.st_mtime_ns
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
        if status.st_size != self._size:
            return f"{name} had {self._size} bytes and now has {status.st_size}"
        return f"{name} was written to" if status.st_mtime_ns != self._modified_ns else None

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
