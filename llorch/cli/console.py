"""What commands write besides their result: progress on a terminal, JSON documents, tables, sizes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from llorch.cli.streams import can_write

MAX_SHOWN_CHARS = 200


class Progress:
    """One line on stderr that is rewritten as work goes on; silent where stderr is no terminal.

    Used as a context manager, the line is wiped at the end. The instance is the callback that long-running
    functions take: ``progress(what, done, total)``.
    """

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._is_dirty = False
        self._line = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` parts of the work are finished, and what is being worked on."""
        if not self._is_shown:
            return
        bar = ""
        if total > 0:
            filled = 20 * done // total
            share = f"{done}/{total}" if total < 1000 else f"{100 * done // total} %"
            bar = f"[{'#' * filled}{'.' * (20 - filled)}] {share} "
        line = f"{bar}{what}"[: shutil.get_terminal_size().columns - 1]
        if self._is_dirty and line == self._line:
            return  # a share that has not changed would only make logs of terminals long
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        self._is_dirty, self._line = True, line

    def clear(self) -> None:
        """Wipe the line."""
        if self._is_dirty:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._is_dirty = False


def print_json(document: Any) -> None:
    """Print the one JSON document of a command; characters that stdout's encoding lacks travel as JSON escapes."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    if not can_write(sys.stdout, text):
        text = json.dumps(document, indent=2, allow_nan=False)
    print(text)


def note(text: str) -> None:
    """Print a line beside the result, on stderr."""
    print(text, file=sys.stderr)


def human_bytes(n: int) -> str:
    """``15_800_000`` becomes ``"15.1 MiB"``."""
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{n} B" if unit == "B" else f"{size:.1f} {unit}"


def print_rows(rows: Sequence[Sequence[str]], indent: str = "  ") -> None:
    """Print rows as columns, each as wide as its widest cell."""
    if not rows:
        return
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print((indent + "  ".join(cells)).rstrip())


def one_line(value: object) -> str:
    """Text, a list, or a long list as `llorch inspect` shortens it: one printable line of bounded length."""
    if isinstance(value, dict):
        return f"{value['n_items']} items: {one_line(value['first'])[:-1]}, ...]"
    text = str(value) if not isinstance(value, list) else f"[{', '.join(map(repr, value))}]"
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."
