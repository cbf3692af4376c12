"""Ctrl-C in a chat: it stops an answer, or throws away the line that is being typed; it does not end the program."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

IMPATIENT = 3
"""So many presses during one answer end the program, in case the answer cannot be stopped."""


class LineDiscarded(Exception):
    """Ctrl-C was pressed at the prompt."""


class StopKey:
    """What Ctrl-C does, while `handled`."""

    def __init__(self) -> None:
        self._is_prompting = False
        self._n_presses = 0

    @property
    def is_pressed(self) -> bool:
        """Whether the answer shall stop."""
        return self._n_presses > 0

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle SIGINT here, unless whoever started this process has switched it off."""
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is signal.SIG_IGN:
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def prompting(self) -> Iterator[None]:
        """A line is being typed: a press raises `LineDiscarded`."""
        try:
            self._is_prompting = True
            yield
        finally:
            self._is_prompting = False

    def begin_answer(self) -> None:
        """Forget earlier presses."""
        self._n_presses = 0

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._is_prompting:
            self._is_prompting = False
            raise LineDiscarded
        self._n_presses += 1
        if self._n_presses >= IMPATIENT and callable(self._before):
            self._before(number, frame)
