"""How large a step may be: prompts are read in pieces that take about a given time.

Other streams, aborts and new requests wait while a step runs. A small model reads a whole batch in milliseconds; a 7B
model would need many seconds for it. How a prompt is cut never changes a result.
"""

from __future__ import annotations

TARGET_S = 0.5
"""Longest wait a step should cause, in seconds."""

SMALLEST = 64
"""Rows below which a step is not cut: every pass reads all weights once, however few rows it has."""

_NEW_SHARE = 0.5


class Pace:
    """Learns the rows per second of large steps and proposes the next one's limit."""

    def __init__(self, n_batch: int, target_s: float = TARGET_S) -> None:
        self._n_batch = n_batch
        self._target_s = target_s
        self._rows_per_s: float | None = None

    @property
    def n_rows(self) -> int:
        """Most rows of the next step; cautious until the first large step has been timed."""
        if self._rows_per_s is None:
            return min(self._n_batch, SMALLEST)
        return max(min(SMALLEST, self._n_batch), min(self._n_batch, int(self._rows_per_s * self._target_s)))

    def record(self, n_rows: int, duration_s: float) -> None:
        """Learn from a step; small ones say nothing, since they wait for the weights."""
        if n_rows < min(SMALLEST, self._n_batch) or duration_s <= 0:
            return
        rows_per_s = n_rows / duration_s
        before = self._rows_per_s
        self._rows_per_s = rows_per_s if before is None else before + _NEW_SHARE * (rows_per_s - before)
