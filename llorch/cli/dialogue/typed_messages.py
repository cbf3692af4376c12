"""Messages as somebody types them, or as a script pipes them: a line each, or several lines that belong together."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterator

from llorch.cli import descriptors
from llorch.cli.dialogue.line_history import LineHistory, line_editor
from llorch.cli.dialogue.stop_key import StopKey
from llorch.cli.interrupt import before_sudden_end
from llorch.cli.streams import check_text
from llorch.errors import InputError

QUOTES = '"""'
FIRST, NEXT = "> ", ". "
"""Prompts for a message, and for another line of it."""
PRESS_S = 0.1
"""A press of Ctrl-C at a prompt without line editing is noticed at the latest after this time."""


def read_message(next_line: Callable[[str], str]) -> str:
    '''The next message: a line; or lines that each end with a backslash, and one more; or what is between two `"""`.

    Args:
        next_line: given a prompt, returns a line without its line feed.

    Raises:
        EOFError: there is no other message.
        InputError: the input ends inside of a message.
    '''
    line = next_line(FIRST)
    if line.lstrip().startswith(QUOTES):
        return _quoted(line.lstrip().removeprefix(QUOTES), next_line)
    lines = []
    while line.endswith("\\"):
        lines.append(line[:-1])
        line = _more(next_line, "a line that ends with a backslash")
    return "\n".join([*lines, line])


def _quoted(line: str, next_line: Callable[[str], str]) -> str:
    lines = []
    while not line.rstrip().endswith(QUOTES):
        lines.append(line)
        line = _more(next_line, f"a text that begins with {QUOTES}")
    lines.append(line.rstrip().removesuffix(QUOTES))
    return "\n".join(lines).strip("\n")


def _more(next_line: Callable[[str], str], inside: str) -> str:
    try:
        return next_line(NEXT)
    except EOFError:
        raise InputError(f"the input ends inside of {inside}") from None


def piped_messages() -> Iterator[str]:
    """The messages on stdin, which is no terminal; empty ones are left out.

    Raises:
        InputError: stdin is closed, or holds no text, or ends inside of a message.
    """
    if "stdin" in descriptors.closed:
        raise InputError("stdin is closed: there are no messages to answer")
    try:
        while True:
            if (message := check_text(read_message(_piped_line), "a message on stdin")).strip():
                yield message
    except EOFError:
        return
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is not valid {error.encoding.upper()} (byte {error.start})") from None


def _piped_line(prompt: str) -> str:
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.removesuffix("\n").removesuffix("\r")


def _keep_terminal() -> None:
    """Give the terminal back as it is now, even if a signal ends the process while a line is edited."""
    import termios

    attributes = termios.tcgetattr(0)
    before_sudden_end(lambda: termios.tcsetattr(0, termios.TCSANOW, attributes))


class Prompt:
    """The prompt of a terminal."""

    def __init__(self, stop_key: StopKey, history: LineHistory | None) -> None:
        """Make lines editable, and offer those of `history` again."""
        self._stop_key = stop_key
        self._history = history
        self._editor = line_editor() if sys.stdout.isatty() else None
        if self._editor is not None:
            _keep_terminal()
        if self._editor is not None and history is not None:
            for line in history.lines():
                self._editor.add_history(line)

    def ask(self) -> str:
        """The next message.

        Raises:
            EOFError: Ctrl-D was pressed.
            LineDiscarded: Ctrl-C was pressed.
            InputError: what was typed is no text.
        """
        try:
            message = check_text(read_message(self._line), "the message")
        except UnicodeDecodeError as error:
            raise InputError(f"the message is not valid {error.encoding.upper()}") from None
        if self._history is not None:
            self._history.keep(message)
        return message

    def _line(self, prompt: str) -> str:
        with self._stop_key.prompting():
            if self._editor is not None:
                return input(prompt)
            sys.stderr.write(prompt)
            sys.stderr.flush()
            while not select.select([sys.stdin], [], [], PRESS_S)[0]:
                pass  # a read would not notice a press that comes just before it blocks
            return _piped_line(prompt)
