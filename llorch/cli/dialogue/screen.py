"""What a chat shows: answers without terminal commands in them, and dim notes on stderr."""

from __future__ import annotations

import os
import sys

from llorch.cli.console import note

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"

_COMMANDING = [code for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"]
_REORDERING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {code: f"\\x{code:02x}" for code in _COMMANDING} | {code: f"\\u{code:04x}" for code in _REORDERING}
"""A terminal obeys the first kind (ESC, BEL, 8-bit commands), and shows text in another order after the second."""


def harmless(text: str) -> str:
    """`text` as a terminal may show it: characters that it would obey are written as escapes."""
    return text.translate(_ESCAPES)


class Screen:
    """The two output streams of a chat.

    Attributes:
        has_terminal: whether answers go to a terminal.
    """

    def __init__(self, *, has_color: bool, is_quiet: bool) -> None:
        """Set up.

        Args:
            has_color: whether notes may be dim, where stderr is a terminal that can show it.
            is_quiet: whether there are no notes beside the answers.
        """
        self.has_terminal = sys.stdout.isatty()
        self._has_notes = sys.stderr.isatty() and not is_quiet
        self._is_dim = (
            has_color
            and sys.stderr.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )

    def write(self, text: str) -> None:
        """Write a part of an answer at once."""
        sys.stdout.write(harmless(text) if self.has_terminal else text)
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Show a note beside an answer, to whoever sits at a terminal."""
        if self._has_notes:
            note(f"{_DIM}{harmless(text)}{_PLAIN}" if self._is_dim else harmless(text))

    def tell(self, text: str) -> None:
        """Show what a command or a mistake is answered with."""
        note(harmless(text))
