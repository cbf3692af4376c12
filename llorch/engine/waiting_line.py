"""Who is next: owners take turns, and each owner's requests go in the order in which they came."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from llorch.engine.sequence import Sequence


class WaitingLine:
    """The sequences without a slot. Those that had one go first, in the order in which they got it."""

    def __init__(self) -> None:
        self._returned: list[Sequence] = []
        self._queues: dict[str, deque[Sequence]] = {}
        self._last_turns: dict[str, int] = {}

    def __len__(self) -> int:
        n_returned = len(self._returned)
        return n_returned + sum(map(len, list(self._queues.values()))) if self._queues else n_returned

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._returned
        for queue in self._queues.values():
            yield from queue

    def append(self, sequence: Sequence) -> None:
        """Take in a new sequence."""
        self._queues.setdefault(sequence.request.owner, deque()).append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Take in a sequence that had a turn."""
        bisect.insort(self._returned, sequence, key=lambda sequence: sequence.turn)

    def first(self) -> Sequence | None:
        """Who is next: of the owner whose last turn is longest ago."""
        if self._returned:
            return self._returned[0]
        heads = [queue[0] for queue in self._queues.values()]
        return min(heads, key=self._urgency, default=None)

    def served(self, sequence: Sequence) -> None:
        """Note that `sequence` has been given its turn, and take it out."""
        self._last_turns[sequence.request.owner] = sequence.turn
        self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take `sequence` out, if it is there."""
        if sequence in self._returned:
            self._returned.remove(sequence)
        owner = sequence.request.owner
        queue = self._queues.get(owner)
        if queue is not None and sequence in queue:
            queue.remove(sequence)
            if not queue:
                del self._queues[owner]

    @contextmanager
    def only(self, sequence: Sequence) -> Iterator[None]:
        """Meanwhile, `sequence` is the only one; afterwards it is in its old place, if it still waits."""
        others = self._returned, self._queues
        self._returned, self._queues = [sequence], {}
        try:
            yield
        finally:
            still_waits = bool(self._returned)
            self._returned, self._queues = others
            if not still_waits:
                self.remove(sequence)

    def _urgency(self, sequence: Sequence) -> tuple[int, float]:
        return self._last_turns.get(sequence.request.owner, -1), sequence.submitted_s
