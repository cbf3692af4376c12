"""The memory of a simulated machine: one channel, which all transfers under way share in equal parts."""

from __future__ import annotations

import heapq


class MemoryChannel:
    """Transfers of simulated nodes.

    All transfers under way move at the same speed, so what each of them has moved since its begin is the difference of
    one running total; a transfer has ended when that total has grown by its size.

    Args:
        bytes_per_s: of all transfers together.

    Attributes:
        busy_s: seconds with at least one transfer.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._moved = 0.0
        self._at_s = 0.0
        self._ends: list[tuple[float, int]] = []  # the total with which a transfer ends, its node
        self.busy_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a transfer is under way."""
        return bool(self._ends)

    def begin(self, node: int, n_bytes: float, now_s: float) -> None:
        """Begin a transfer; `now_s` is where the channel was advanced to last, or it is idle."""
        if not self._ends:
            self._at_s = now_s
        heapq.heappush(self._ends, (self._moved + n_bytes, node))

    def advance(self, now_s: float) -> None:
        """Move on in time, at most to the end of the next transfer."""
        if self._ends:
            self.busy_s += now_s - self._at_s
            self._moved += (now_s - self._at_s) * self._bytes_per_s / len(self._ends)
        self._at_s = now_s

    def next_end_s(self, now_s: float) -> float:
        """When the next transfer ends if none begins before; infinite without one."""
        if not self._ends:
            return float("inf")
        return max(now_s, self._at_s + (self._ends[0][0] - self._moved) * len(self._ends) / self._bytes_per_s)

    def pop(self, now_s: float) -> int:
        """End the next transfer at `now_s`, which `next_end_s` gave; returns its node."""
        self.busy_s += now_s - self._at_s
        self._at_s = now_s
        self._moved, node = heapq.heappop(self._ends)
        return node
