"""Paths and names of files as they stand in messages: one line, whatever is in them."""

from __future__ import annotations

from pathlib import Path


def printable(path: Path) -> str:
    """The path as one printable line, whatever its bytes."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def quote(name: str | bytes) -> str:
    """A name from the file for a message: one line, unprintable characters escaped, bounded length."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return repr(text if len(text) <= 80 else text[:77] + "...")
