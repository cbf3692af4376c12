"""How long compute threads were without a core, by the clocks that the system keeps of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence


class CoreClocks:
    """The time that threads did not run between two moments.

    A thread that another program kept from its core is late by that time, and so are those that wait for it.

    Args:
        thread_idents: of the threads beside the caller's (`threading.Thread.ident`), which comes first.
    """

    def __init__(self, thread_idents: Sequence[int]) -> None:
        idents = [threading.get_ident(), *thread_idents]
        # Reading the clock of another thread is POSIX; macOS has it not.
        clock_of = getattr(time, "pthread_getcpuclockid", None)
        self._clocks = [clock_of(ident) for ident in idents] if clock_of else []
        self._begun = self._used()
        self._begun_ns = time.perf_counter_ns()

    def _used(self) -> list[int]:
        return [time.clock_gettime_ns(clock) for clock in self._clocks]

    def begin(self) -> None:
        """Time counts from here on."""
        # In this order, and in `off_ns` in the other: what the readings take never counts as time off a core.
        self._begun = self._used()
        self._begun_ns = time.perf_counter_ns()

    def off_ns(self) -> tuple[int, ...]:
        """Nanoseconds since `begin` in which each thread did not run; nothing where the system does not say."""
        elapsed = time.perf_counter_ns() - self._begun_ns
        pairs = zip(self._used(), self._begun, strict=True)
        return tuple(max(0, elapsed - (used - before)) for used, before in pairs)
