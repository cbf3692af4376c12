"""Is a model file still what was opened? A thread that asks once a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

INTERVAL_S = 1.0
LEAVE_S = 2.0
"""How long to wait for a file system that does not answer."""


class FileWatch:
    """Watches a file while it is entered as a context.

    It has a thread of its own because a network file system may take its time to answer.
    """

    def __init__(
        self,
        changed: Callable[[], str | None],
        on_change: Callable[[str], None],
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Nothing is asked yet.

        Args:
            changed: what has happened to the file; None if nothing has.
            on_change: called once, on the thread of the watch, with what has happened.
            interval_s: time between two questions.
        """
        self._changed = changed
        self._on_change = on_change
        self._interval_s = interval_s
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llorch-file-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        while not self._left.wait(self._interval_s):
            change = self._changed()
            if change is not None:
                self._on_change(change)
                return
