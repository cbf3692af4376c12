"""Processors that replicas share: who computes on the same core takes turns, other busy cores slow memory down."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Work:
    core: int
    left_s: float  # as if it were alone on the machine
    slowdown: float  # while another core computes, too


class Machine:
    """The cores of one machine, and the work under way on them. Time only goes forward.

    Attributes:
        n_cores: cores there are.
        busy_s: time that they have computed, all together.
    """

    def __init__(self, n_cores: int) -> None:
        self.n_cores = n_cores
        self.busy_s = 0.0
        self._work: dict[Hashable, _Work] = {}
        self._now_s = 0.0

    def begin(self, name: Hashable, core: int, alone_s: float, beside_s: float, now_s: float) -> None:
        """Put work on a core.

        Args:
            name: of the work.
            core: where it is pinned.
            alone_s: what it takes while nothing else computes.
            beside_s: what it takes while all other cores compute.
            now_s: when it begins.
        """
        self._advance(now_s)
        self._work[name] = _Work(core, alone_s, max(beside_s / alone_s, 1.0) if alone_s > 0 else 1.0)

    def drop(self, name: Hashable, now_s: float) -> None:
        """Take work away, finished or not; nothing if there is none of that name."""
        self._advance(now_s)
        self._work.pop(name, None)

    def next_end(self, now_s: float) -> tuple[float, Hashable] | None:
        """When the first work ends if nothing else begins, and which that is."""
        self._advance(now_s)
        ends = [(now_s + work.left_s / self._rate(work), i) for i, work in enumerate(self._work.values())]
        if not ends:
            return None
        at_s, i = min(ends)
        return at_s, list(self._work)[i]

    def _rate(self, work: _Work) -> float:
        """Seconds of `work` that are done in a second."""
        cores = [other.core for other in self._work.values()]
        n_others = len(set(cores)) - 1
        part = n_others / (self.n_cores - 1) if self.n_cores > 1 else 0.0
        return 1 / (cores.count(work.core) * (1 + (work.slowdown - 1) * part))

    def _advance(self, now_s: float) -> None:
        passed_s = now_s - self._now_s
        if passed_s > 0:
            self.busy_s += passed_s * len({work.core for work in self._work.values()})
            for work, rate in [(work, self._rate(work)) for work in self._work.values()]:
                work.left_s = max(work.left_s - passed_s * rate, 0.0)
                if math.isclose(work.left_s, 0.0, abs_tol=1e-12):
                    work.left_s = 0.0
        self._now_s = now_s
