"""What came out of a run, real or simulated: the same figures from the same records."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from tools.performance.server_loads import percentile

_STEPS_PER_E = 100
"""Cells of a histogram for a factor e: each is 1 % wide."""


class LogHistogram:
    """Durations in cells 1 % wide: a simulation has too many gaps between tokens to keep each."""

    def __init__(self) -> None:
        self._cells: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._cells[round(_STEPS_PER_E * math.log(max(seconds, 1e-9)))] += 1

    def percentile(self, share: float) -> float:
        """The smallest cell that at least `share` of all do not exceed; NaN if there are none."""
        rest = math.ceil(share * self._cells.total())
        for cell in sorted(self._cells):
            rest -= self._cells[cell]
            if rest <= 0:
                return math.exp(cell / _STEPS_PER_E)
        return math.nan


@dataclass(slots=True)
class Tally:
    """Figures of a run while it goes on; times count from its begin.

    Attributes:
        first_s: seconds from each request to its first token.
        gaps: time between tokens of an answer.
        n_tokens: tokens sent.
        n_prompt: tokens of all finished prompts.
        n_cached: those of them that came from caches.
        n_finished: answers that were sent whole.
        n_refused: requests that no replica took.
        n_restarted: requests that were sent again, because their replica was gone.
        begin_s: when the first request was sent.
        end_s: when the last token came.
        replica_s: time of all replicas together.
        busy_s: processor time of all replicas.
        loop_s: that of their event loops, where it is told apart.
    """

    first_s: list[float] = field(default_factory=list)
    gaps: LogHistogram = field(default_factory=LogHistogram)
    n_tokens: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    n_finished: int = 0
    n_refused: int = 0
    n_restarted: int = 0
    begin_s: float = math.inf
    end_s: float = 0.0
    replica_s: float = 0.0
    busy_s: float = 0.0
    loop_s: float = 0.0

    def figures(self) -> dict[str, float]:
        """Plain figures by name."""
        seconds = self.end_s - self.begin_s
        firsts = self.first_s or [math.nan]
        return {
            "tokens_per_s": self.n_tokens / seconds if seconds > 0 else 0.0,
            "first_p50_ms": 1000 * percentile(firsts, 0.5),
            "first_p95_ms": 1000 * percentile(firsts, 0.95),
            "gap_p50_ms": 1000 * self.gaps.percentile(0.5),
            "gap_p99_ms": 1000 * self.gaps.percentile(0.99),
            "cached_share": self.n_cached / self.n_prompt if self.n_prompt else 0.0,
            "finished": self.n_finished,
            "refused": self.n_refused,
            "restarted": self.n_restarted,
            "replica_s": self.replica_s,
            "busy_s": self.busy_s,
            "loop_s": self.loop_s,
        }
