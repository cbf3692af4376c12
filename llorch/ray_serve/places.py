"""How many requests the gateway lets in: for each owner, those that can run and `max_waiting` more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llorch.engine.ledger import MAX_RETRY_AFTER_S
from llorch.errors import QueueFullError


class Places:
    """Places for generations, counted as `llorch.engine.ledger` counts them for one engine.

    Args:
        n_slots: says how many sequences all replicas run side by side.
        max_waiting: requests of one owner that may be open beyond those.
        clock: says what time it is, in seconds.
    """

    def __init__(self, n_slots: Callable[[], int], max_waiting: int, clock: Callable[[], float]) -> None:
        self._n_slots = n_slots
        self._max_waiting = max_waiting
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._busy_s = 1.0  # running mean of the time that a request holds its place

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """Hold a place for a request of `owner`.

        Raises:
            QueueFullError: there is none.
        """
        n_slots = max(self._n_slots(), 1)
        if self._open[owner] >= n_slots + self._max_waiting:
            n_waiting = self._open[owner] - n_slots
            retry_after_s = math.ceil(self._busy_s * (n_waiting + 1) / n_slots)
            raise QueueFullError(n_waiting, min(max(retry_after_s, 1), MAX_RETRY_AFTER_S))
        self._open[owner] += 1
        started_s = self._clock()
        try:
            yield
        finally:
            self._busy_s += 0.1 * (self._clock() - started_s - self._busy_s)
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
