"""Paths, names of files and texts of strangers as they stand in messages: one line, whatever is in them."""

from __future__ import annotations

from pathlib import Path


def printable(path: Path | str) -> str:
    """The path as one printable line, whatever its bytes."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def escaped(text: str) -> str:
    """A message as one printable line: what would begin another, or what a terminal would obey, is spelled out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def quote(name: str | bytes) -> str:
    """A name from the file for a message: one line, unprintable characters escaped, bounded length."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return repr(text if len(text) <= 80 else text[:77] + "...")
