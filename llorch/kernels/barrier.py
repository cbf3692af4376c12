"""How the team waits: spin a little, then yield, then (between steps only) park.

The control block is int64, one cache line per field, so that waiting threads do not slow the others down.
"""

from __future__ import annotations

from llorch.kernels.emit.scalars import atomic_add, atomic_load, atomic_store, pause, ticks, usleep, yield_cpu
from llorch.kernels.jit import kernel

LINE = 64
GENERATION, ARRIVED, RELEASED, ABORT, PROGRAM, FIRST, LAST, STEP, COUNTERS, FINISHED = (
    LINE * i for i in range(10)
)
PARKED = LINE * 10
"""Byte offsets of the fields; from PARKED on, one line per thread."""

ACTIVE_LIMIT = 2048
"""More than the threads of any team. GENERATION holds ``number of the step * ACTIVE_LIMIT + threads that take part in
it``, in one word, so that no thread can take the number of one step for that of another."""

FEW_THREADS = 4
"""Up to so many wait at one cache line."""

_SPINS = 300
_YIELDS = 2000
_PARK_AFTER_YIELDS = 4000
_PARK_AFTER_TICKS = 1 << 24
"""Some milliseconds. Where other work wants the core too, each yield gives it that long: a thread that yielded 4000
times would keep its place for 10 s, and the system would put the thread that computes beside other work."""


@kernel
def barrier(control: int, nth: int) -> int:
    """Wait for all `nth` threads; returns 1 when the team was aborted meanwhile.

    ARRIVED only grows, and is a multiple of `nth` when a step begins (`begin_round`). A few threads look at the very
    line to which the last one adds; of many, each look would slow the arrivals down.
    """
    if nth == 1:
        return atomic_load(control + ABORT)
    arrived = atomic_add(control + ARRIVED, 1)
    everyone = (arrived // nth + 1) * nth
    watched = control + ARRIVED
    if nth > FEW_THREADS:
        watched = control + RELEASED
        if arrived + 1 == everyone:
            atomic_store(control + RELEASED, everyone)
    spins = 0
    while atomic_load(watched) < everyone:
        spins += 1
        if spins < _SPINS:
            pause()
        else:
            if atomic_load(control + ABORT):
                return 1
            if spins < _YIELDS:
                yield_cpu()
            else:
                usleep(50)
    return 0


@kernel
def begin_round(control: int, nth: int) -> None:
    """Let the barriers of a step of `nth` threads count from 0; no thread arrives at one, but some may still look."""
    arrived = atomic_load(control + ARRIVED)
    atomic_store(control + ARRIVED, (arrived + nth - 1) // nth * nth)


@kernel
def wait_for_step(control: int, ith: int, generation: int) -> int:
    """Wait until a step newer than `generation` starts in which thread `ith` takes part.

    Returns:
        The step's generation, or -1 to park the thread. Steps of others do not keep it from parking.
    """
    waited, begun = 0, ticks()
    while True:
        current = atomic_load(control + GENERATION)
        if current != generation:
            generation = current
            if ith < current % ACTIVE_LIMIT:
                return current
        waited += 1
        if waited < _SPINS:
            pause()
        elif waited < _PARK_AFTER_YIELDS and ticks() - begun < _PARK_AFTER_TICKS:
            yield_cpu()
        else:
            atomic_store(control + PARKED + ith * LINE, 1)
            # The step may have started between the look above and the flag: look again.
            if atomic_load(control + GENERATION) == generation:
                return -1
            atomic_store(control + PARKED + ith * LINE, 0)
