"""How values are distributed, as plain numbers: the engine adds to them, metrics are made of them elsewhere."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Distribution:
    """Counts of values between bounds, and their sum: what a histogram of Prometheus needs.

    One thread adds; any may read, and may miss the value that is being added. A step adds to it for each token, so it
    takes no lock and keeps no objects.

    Attributes:
        bounds: ascending; value v counts at the first bound >= v, or behind the last one.
        counts: of each bound, and of all beyond the last; each value counts once.
        total: sum of the values.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def n(self) -> int:
        """How many values there were."""
        return sum(self.counts)
