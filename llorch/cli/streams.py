"""Standard streams as commands use them: any character can be written, and a stream that is missing is named."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from llorch.cli import descriptors
from llorch.errors import InputError


def escape_what_cannot_be_written() -> None:
    """Write characters that an output's encoding does not have as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def can_write(stream: TextIO, text: str) -> bool:
    """Whether the encoding of `stream` has every character of `text`."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def require_stdout() -> None:
    """Refuse to compute a result that nobody can read.

    Raises:
        InputError: stdout was closed by the parent.
    """
    if "stdout" in descriptors.closed:
        raise InputError("stdout is closed: there is nowhere to write the result")


def read_argument(argument: str, what: str) -> str:
    """`argument`, a text of the command line, or what stdin holds if it is ``-``.

    Args:
        argument: as it was typed.
        what: names it in errors.

    Raises:
        InputError: it is no valid text, or stdin is closed.
    """
    if argument == "-":
        if "stdin" in descriptors.closed:
            raise InputError(f"{what} is to be read from stdin (-), which is closed")
        try:
            argument = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise InputError(f"{what} is not valid {error.encoding.upper()} (byte {error.start})") from None
    return check_text(argument, what)


def check_text(text: str, what: str) -> str:
    """`text` as it came from the command line, if it is text at all.

    Raises:
        InputError: it holds bytes that are no UTF-8 (Python hands them on as lone surrogates).
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not valid UTF-8 (character {error.start + 1})") from None
    return text


def discard_unwritable() -> None:
    """Give Python's flush at exit somewhere to go, if the reader has left or the disk is full."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
