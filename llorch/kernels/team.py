"""The thread team: a few threads that live as long as the model and run every step together.

Each step is one call per thread. The caller is thread 0; the others wait inside compiled code without the GIL,
first spinning, then yielding, and after some milliseconds parked on a semaphore, so that an idle model costs
nothing.
"""

from __future__ import annotations

import os
import threading

import numpy as np
from numpy.typing import NDArray

from llorch.errors import KernelError, SettingsError
from llorch.kernels import barrier as b
from llorch.kernels.emit.scalars import atomic_load, atomic_store
from llorch.kernels.interpreter import run_instructions
from llorch.kernels.jit import load_units, unit
from llorch.kernels.program import RECORD
from llorch.machine.memory import aligned_bytes


@unit("thread team", 4)
def run_steps(control, scratch, ith, generation):
    """Run one step as thread 0, or step after step as another thread until there is none for a while.

    Returns:
        The last step's generation; ``-1 - generation`` if the team was aborted.
    """
    while True:
        if ith:
            following = b.wait_for_step(control, ith, generation)
            if following < 0:
                return generation
            generation = following
            if atomic_load(control + b.ABORT):
                return -1 - generation
        program, first = atomic_load(control + b.PROGRAM), atomic_load(control + b.FIRST)
        last, step = atomic_load(control + b.LAST), atomic_load(control + b.STEP)
        counters, nth = atomic_load(control + b.COUNTERS), generation % b.ACTIVE_LIMIT
        if run_instructions(program, first, last, step, counters, control, scratch, ith, nth):
            return -1 - generation
        if ith == 0:
            atomic_store(control + b.FINISHED, generation)
            return generation


@unit("waking threads", 1)
def exchange_zero(address):
    """Read the int64 at `address` and set it to 0."""
    value = atomic_load(address)
    if value:
        atomic_store(address, 0)
    return value


@unit("starting threads", 2)
def set_field(address, value):
    """Store an int64 where other threads see it."""
    atomic_store(address, value)
    return 0


TEAM_UNITS = (run_steps, exchange_zero, set_field)
"""What every team needs."""


class Team:
    """`n_threads` threads that run instructions together.

    Args:
        n_threads: threads, the caller included.
        scratch_bytes: scratch of each thread.
    """

    def __init__(self, n_threads: int, scratch_bytes: int) -> None:
        if not 0 < n_threads < b.ACTIVE_LIMIT:
            raise SettingsError(f"threads: expected 1 to {b.ACTIVE_LIMIT - 1}, got {n_threads}")
        self.n_threads = n_threads
        self._control = aligned_bytes(b.PARKED + b.LINE * n_threads)
        self._control[:] = 0
        self._fields = self._control.view(np.int64)
        self._address = int(self._control.ctypes.data)
        self._scratch_stride = -(-max(scratch_bytes, 64) // 4096) * 4096
        self._scratch = aligned_bytes(self._scratch_stride * n_threads, 4096)
        self._scratch_address = int(self._scratch.ctypes.data)
        self._generation = 0
        self._wake = [threading.Semaphore(0) for _ in range(n_threads)]
        self._closed = False
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        load_units(TEAM_UNITS)
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"llorch-{i}", daemon=True)
            for i in range(1, n_threads)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, ith: int) -> None:
        scratch = self._scratch_address + ith * self._scratch_stride
        generation = 0
        while not self._closed:
            generation = run_steps(self._address, scratch, ith, generation)
            if generation < 0:
                return
            self._wake[ith].acquire()

    def run(self, program: NDArray[np.int64], first: int, last: int, step: NDArray[np.int64],
            counters: NDArray[np.int64], n_active: int | None = None) -> None:  # fmt: skip
        """Run instructions ``first <= i < last`` of `program` (int64 (n, RECORD)) and return when all are done.

        The last of them must be followed by a barrier, so that no thread is left behind in the step. With
        `n_active`, only so many threads take part; the others sleep on.

        Raises:
            KernelError: the team is closed or was aborted in the middle.
        """
        if program.shape[1] != RECORD or len(counters) < last:
            raise ValueError("program or counters have the wrong shape")
        if first >= last:
            return  # without a barrier at its end, a thread could run the next step twice
        with self._lock:
            if self._closed:
                raise KernelError("the thread team is closed")
            if self._process_id != os.getpid():
                raise KernelError(
                    f"the model was loaded by process {self._process_id}; its compute threads do not follow a fork: "
                    "load it anew in this one"
                )
            counters[first:last] = 0
            n_active = n_active or self.n_threads
            self._generation = self._next_generation(n_active)
            for offset, value in (
                (b.PROGRAM, program.ctypes.data),
                (b.FIRST, first),
                (b.LAST, last),
                (b.STEP, step.ctypes.data),
                (b.COUNTERS, counters.ctypes.data),
            ):
                self._fields[offset // 8] = value
            try:
                set_field(self._address + b.GENERATION, self._generation)
                self._wake_parked(n_active)
                reached = run_steps(self._address, self._scratch_address, 0, self._generation)
            except BaseException:
                # Ctrl-C before thread 0 began: the others wait in a step that has no leader.
                if self._field(b.FINISHED) != self._generation:
                    self._stop()
                raise
            if reached < 0:
                raise KernelError("the thread team was aborted in the middle of a step")

    def _next_generation(self, n_active: int) -> int:
        return (self._generation // b.ACTIVE_LIMIT + 1) * b.ACTIVE_LIMIT + n_active

    def _wake_parked(self, n_active: int) -> None:
        for ith in range(1, n_active):
            if exchange_zero(self._address + b.PARKED + ith * b.LINE):
                self._wake[ith].release()

    def _field(self, offset: int) -> int:
        return int(self._fields[offset // 8])

    def _stop(self) -> None:
        """Stop all threads, wherever they wait."""
        self._closed = True
        set_field(self._address + b.ABORT, 1)
        set_field(self._address + b.GENERATION, self._next_generation(self.n_threads))
        for ith in range(1, self.n_threads):
            self._wake[ith].release()

    def close(self) -> None:
        """Stop the threads; waits for a running step."""
        with self._lock:
            if not self._closed:
                self._stop()
        for thread in self._threads:
            thread.join()
