"""Ticks of the CPU's counter as times of `time.perf_counter_ns`."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.clock import read_ticks

N_READINGS = 20
"""Of both clocks at a time: the closest pair counts, since a thread may be put aside between the two."""


def _reading() -> tuple[int, int]:
    """Ticks and nanoseconds of one moment."""
    readings = []
    for _ in range(N_READINGS):
        before = time.perf_counter_ns()
        ticks = read_ticks()
        after = time.perf_counter_ns()
        readings.append((after - before, ticks, (before + after) // 2))
    _, ticks, now_ns = min(readings)
    return ticks, now_ns


class TickClock:
    """Maps ticks between its making and `stop` to nanoseconds; the counter must run evenly, as on x86 since 2008."""

    def __init__(self) -> None:
        self._begin = _reading()
        self._end = self._begin

    def stop(self) -> None:
        """Take the second reading; the longer after the first, the better."""
        self._end = _reading()

    def ns(self, ticks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Times of `time.perf_counter_ns` for ticks, any shape; `stop` comes first."""
        (ticks_0, ns_0), (ticks_1, ns_1) = self._begin, self._end
        scale = (ns_1 - ns_0) / max(ticks_1 - ticks_0, 1)
        times: NDArray[np.int64] = ns_0 + np.rint((ticks - ticks_0) * scale).astype(np.int64)
        return times
