"""What it costs threads to meet, measured with operations that have next to nothing to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.errors import SettingsError
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.jit import load_units
from llorch.kernels.ops.add import add
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.machine.places import node_groups, places_for
from llorch.observe.stamps import Stamps
from llorch.trace.tick_clock import TickClock

N_INSTRUCTIONS = 60
N_STEPS = 5
N_ROUNDS = 24
"""The quickest round counts: in others a thread may have waited for its core."""

MOST_SECONDS = 0.5
"""Many threads on few cores take long to meet; fewer rounds must do then."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Medians of the quickest round.

    Attributes:
        barrier_s: from the last thread's end of an operation to the last thread's begin of the next one.
        start_s: from the caller's begin of a step to the last thread's.
    """

    barrier_s: float
    start_s: float


def measure_handover(n_threads: int) -> Handover:
    """Measure how `n_threads` threads meet; a fraction of a second.

    Raises:
        SettingsError: there cannot be so many threads.
    """
    rows, program = Rows.empty(1, 16), Program()
    for _ in range(N_INSTRUCTIONS):
        add(program, -1, rows, rows, rows)
    load_units(program.units())
    records, counters = program.records(), np.zeros((N_INSTRUCTIONS, 1), np.int64)
    stamps, step = Stamps(N_INSTRUCTIONS, n_threads), np.zeros(st.STEP_SIZE, np.int64)
    step[st.N_ROWS], step[st.STAMPS], step[st.TEAM_THREADS] = 1, stamps.address, n_threads
    team, clock = Team(n_threads, 0, _cores(n_threads)), TickClock()
    taken: list[list[NDArray[np.int64]]] = []
    try:
        ends_s = time.monotonic() + MOST_SECONDS
        while not taken or (len(taken) < N_ROUNDS and time.monotonic() < ends_s):
            taken.append([])
            for _ in range(N_STEPS):
                team.run(records, 0, N_INSTRUCTIONS, step, counters)
                taken[-1].append(stamps.ticks.copy())
    finally:
        team.close()
    clock.stop()
    times = clock.ns(np.array(taken))  # (n_rounds, N_STEPS, N_INSTRUCTIONS, n_threads, 2)
    meetings = times[:, :, 1:, :, 0].max(3) - times[:, :, :-1, :, 1].max(3)
    starts = times[:, :, 0, :, 0].max(2) - times[:, :, 0, 0, 0]
    return Handover(_quickest(meetings), _quickest(starts))


def _cores(n_threads: int) -> Sequence[tuple[int, ...]]:
    """A core for each thread, where the system grants it: two on one core would take turns."""
    try:
        return places_for(n_threads, node_groups("off"), pin=True).cpus
    except SettingsError:
        return [()] * n_threads


def _quickest(times_ns: NDArray[np.int64]) -> float:
    """The least of the rounds' medians, in seconds."""
    return float(np.median(times_ns.reshape(len(times_ns), -1), 1).min()) / 1e9
