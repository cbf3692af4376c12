"""The lines that were typed: editable with readline, and kept in a file that only this user can read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from llorch.machine.user_folders import make_own_folder

MAX_LINES = 1000
"""Lines that are offered again; the file is cut to these when it has twice as many."""
MAX_BYTES = 4 << 20
MAX_LINE_CHARS = 8192
"""Longer lines are not kept."""


def line_editor() -> ModuleType | None:
    """The module whose import makes `input` editable; None where Python was built without it."""
    try:
        import readline
    except ImportError:
        return None
    return readline


class LineHistory:
    """A file of lines. Several chats may add to it at once; what cannot be read or written is left out."""

    def __init__(self, path: Path) -> None:
        """Use a file, which need not exist; its folder is made for this user alone."""
        self._path = path
        self._is_usable = not make_own_folder(path.parent)

    def lines(self) -> list[str]:
        """The latest lines, the oldest first."""
        lines: list[str] = []
        with contextlib.suppress(OSError), self._opened(os.O_RDONLY) as descriptor:
            size = os.fstat(descriptor).st_size
            content = os.pread(descriptor, MAX_BYTES, max(0, size - MAX_BYTES))
            lines = content.decode(errors="replace").splitlines()
        if len(lines) > 2 * MAX_LINES:
            self._rewrite(lines[-MAX_LINES:])
        return lines[-MAX_LINES:]

    def keep(self, text: str) -> None:
        """Add the lines of `text` to the file."""
        kept = [line for line in text.splitlines() if line.strip() and len(line) <= MAX_LINE_CHARS]
        content = "".join(f"{line}\n" for line in kept).encode(errors="replace")
        with contextlib.suppress(OSError), self._opened(os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content)

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        """The file, if it is one: a link could lead anywhere, a FIFO would wait for its other end."""
        if not self._is_usable:
            raise OSError
        descriptor = os.open(self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError
            yield descriptor
        finally:
            os.close(descriptor)

    def _rewrite(self, lines: list[str]) -> None:
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.writelines(f"{line}\n" for line in lines)
            os.replace(beside, self._path)
