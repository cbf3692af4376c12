"""The thread team: a few threads that live as long as the model and run every step together.

Each step is one call per thread. The caller is thread 0; the others wait inside compiled code without the GIL,
first spinning, then yielding, and after some milliseconds parked on a queue, so that an idle model costs
nothing.
"""

from __future__ import annotations

import operator
import queue
import threading
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.errors import KernelError, SettingsError
from llorch.fields.table import FIELDS
from llorch.kernels import barrier as b
from llorch.kernels.emit.scalars import as_int64, atomic_load, atomic_store
from llorch.kernels.interpreter import run_instructions
from llorch.kernels.jit import load_units, unit
from llorch.kernels.program import RECORD
from llorch.kernels.stamp_log import stamp_pass
from llorch.kernels.step import N_NODES, STAMPS
from llorch.machine.memory import aligned_bytes
from llorch.machine.places import bind, bound
from llorch.machine.process import OwningProcess


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


@unit("beginning a step", 7, is_short=True)
def begin_step(control, generation, program, first, last, step, counters):
    """Tell the threads what they shall run, and let them begin; thread 0 follows with `run_steps`.

    Args (int64; addresses unless said otherwise):
        control: the team's control block.
        generation: number of the step, with the threads that take part in it.
        program, first, last: instructions ``first <= i < last``.
        step: int64 (STEP_SIZE,).
        counters: int64 (n, nodes), of which those of the instructions become 0.

    Returns:
        How many of the threads are parked, and have to be woken.
    """
    width = max(as_int64(step)[N_NODES], 1)
    claimed = as_int64(counters + 8 * width * first)
    for i in range((last - first) * width):
        claimed[i] = 0
    atomic_store(control + b.PROGRAM, program)
    atomic_store(control + b.FIRST, first)
    atomic_store(control + b.LAST, last)
    atomic_store(control + b.STEP, step)
    atomic_store(control + b.COUNTERS, counters)
    n_active = generation % b.ACTIVE_LIMIT
    stamp_pass(as_int64(step)[STAMPS], first, last, n_active)
    b.begin_round(control, n_active)
    atomic_store(control + b.GENERATION, generation)
    n_parked = 0
    for ith in range(1, n_active):
        n_parked += atomic_load(control + b.PARKED + ith * b.LINE)
    return n_parked


@unit("waking threads", 1, is_short=True)
def exchange_zero(address):
    """Read the int64 at `address` and set it to 0."""
    value = atomic_load(address)
    if value:
        atomic_store(address, 0)
    return value


@unit("starting threads", 2, is_short=True)
def set_field(address, value):
    """Store an int64 where other threads see it."""
    atomic_store(address, value)
    return 0


TEAM_UNITS = (run_steps, begin_step, exchange_zero, set_field)
"""What every team needs."""

MAX_THREADS: int = FIELDS["threads"].kind.limits["le"]
"""Most threads of a team, the caller included."""


def check_threads(n_threads: int) -> None:
    """Refuse a number of threads that no team can have.

    Raises:
        SettingsError: it is none of 1 to `MAX_THREADS`.
    """
    if not 1 <= n_threads <= MAX_THREADS:
        raise SettingsError(f"threads: expected 1 to {MAX_THREADS}, got {n_threads}")


class _Shared:
    """What the threads of a team share. They know this and not the team, so that a team nobody uses can go."""

    def __init__(self, n_threads: int, scratch_bytes: int) -> None:
        self.n_threads = n_threads
        self.is_closed = False
        self.generation = 0
        self._control = aligned_bytes(b.PARKED + b.LINE * n_threads)
        self._control[:] = 0
        self.fields = self._control.view(np.int64)
        self.address = int(self._control.ctypes.data)
        self._scratch_stride = -(-max(scratch_bytes, 64) // 4096) * 4096
        self._scratch = aligned_bytes(self._scratch_stride * n_threads, 4096)
        self._scratch_address = int(self._scratch.ctypes.data)
        # Unlike a semaphore, a queue of this kind may be used by a destructor, which can run in any thread at any time.
        self._wake: list[queue.SimpleQueue[None]] = [queue.SimpleQueue() for _ in range(n_threads)]
        self._owner = OwningProcess()

    def scratch(self, ith: int) -> int:
        """Address of the scratch of thread `ith`."""
        return self._scratch_address + ith * self._scratch_stride

    def wait(self, ith: int) -> None:
        """Park thread `ith`."""
        self._wake[ith].get()

    def wake_parked(self, n_active: int) -> None:
        """Wake those of the first `n_active` threads that are parked."""
        for ith in range(1, n_active):
            if exchange_zero(self.address + b.PARKED + ith * b.LINE):
                self._wake[ith].put(None)

    def next_generation(self, n_active: int) -> int:
        """Count one step more, with `n_active` threads."""
        self.generation = (self.generation // b.ACTIVE_LIMIT + 1) * b.ACTIVE_LIMIT + n_active
        return self.generation

    def stop(self) -> None:
        """Stop all threads, wherever they wait. Idempotent; does nothing in a forked process, where there are none."""
        if self.is_closed or not self._owner.is_current:
            return
        self.is_closed = True
        set_field(self.address + b.ABORT, 1)
        set_field(self.address + b.GENERATION, self.next_generation(self.n_threads))
        for ith in range(1, self.n_threads):
            self._wake[ith].put(None)


def _work(shared: _Shared, ith: int, cpus: tuple[int, ...]) -> None:
    """What thread `ith` does, from its start to the end of the team."""
    bind(cpus)
    generation = 0
    while not shared.is_closed:
        generation = run_steps(shared.address, shared.scratch(ith), ith, generation)
        if generation < 0:
            return
        shared.wait(ith)


class Team:
    """`n_threads` threads that run instructions together; they end with `close`, or when nobody holds the team.

    Args:
        n_threads: threads, the caller included.
        scratch_bytes: scratch of each thread.
        cpus: for each thread the CPUs that it may use, none for any; default: none for all.

    Raises:
        SettingsError: there cannot be so many threads.
    """

    def __init__(self, n_threads: int, scratch_bytes: int, cpus: Sequence[tuple[int, ...]] = ()) -> None:
        check_threads(n_threads)
        self.n_threads = n_threads
        self._shared = _Shared(n_threads, scratch_bytes)
        self._cpus = cpus or [()] * n_threads
        self._address = self._shared.address
        self._scratch_address = self._shared.scratch(0)
        self._owner = OwningProcess()
        self._lock = threading.Lock()
        self._arrays: tuple[NDArray[np.int64], ...] = ()
        self._addresses: tuple[int, ...] = ()
        load_units(TEAM_UNITS)
        weakref.finalize(self, self._shared.stop).atexit = False
        self._threads = [
            threading.Thread(
                target=_work, args=(self._shared, i, self._cpus[i]), name=f"llorch-{i}", daemon=True
            )
            for i in range(1, n_threads)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self._shared.stop()
            raise SettingsError(f"threads: {n_threads} cannot be started ({error})") from error

    def run(self, program: NDArray[np.int64], first: int, last: int, step: NDArray[np.int64],
            counters: NDArray[np.int64], n_active: int | None = None) -> None:  # fmt: skip
        """Run instructions ``first <= i < last`` of `program` (int64 (n, RECORD)) and return when all are done.

        `counters` is int64 (n,), or (n, N_NODES) where the step has nodes.

        The last of them must be followed by a barrier, so that no thread is left behind in the step. With
        `n_active`, only so many threads take part; the others sleep on.

        Raises:
            KernelError: the team is closed or was aborted in the middle; `ForkedError` in a forked process.
        """
        if program.shape[1] != RECORD or len(counters) < last:
            raise ValueError("program or counters have the wrong shape")
        if first >= last:
            return  # without a barrier at its end, a thread could run the next step twice
        self._owner.check()
        shared = self._shared
        with self._lock:
            if shared.is_closed:
                raise KernelError("the thread team is closed")
            program_at, step_at, counters_at = self._addresses_of(program, step, counters)
            n_active = n_active or self.n_threads
            generation = shared.next_generation(n_active)
            try:
                if begin_step(self._address, generation, program_at, first, last, step_at, counters_at):
                    shared.wake_parked(n_active)
                if not self._cpus[0]:
                    reached = run_steps(self._address, self._scratch_address, 0, generation)
                else:
                    with bound(self._cpus[0]):
                        reached = run_steps(self._address, self._scratch_address, 0, generation)
            except BaseException:
                # Ctrl-C before thread 0 began: the others wait in a step that has no leader.
                if self._field(b.FINISHED) != generation:
                    shared.stop()
                raise
            if reached < 0:
                raise KernelError("the thread team was aborted in the middle of a step")

    @property
    def thread_idents(self) -> list[int]:
        """Of the threads beside the caller (`threading.Thread.ident`)."""
        return [thread.ident for thread in self._threads if thread.ident is not None]

    def _addresses_of(self, *arrays: NDArray[np.int64]) -> tuple[int, ...]:
        """Where arrays begin. NumPy takes a microsecond to say it, and they are mostly those of the step before."""
        if len(self._arrays) != len(arrays) or any(map(operator.is_not, arrays, self._arrays)):
            self._addresses = tuple(int(array.ctypes.data) for array in arrays)
            self._arrays = arrays
        return self._addresses

    def _field(self, offset: int) -> int:
        return int(self._shared.fields[offset // 8])

    def close(self) -> None:
        """Stop the threads; waits for a running step. In a forked process there is nothing to stop. Idempotent."""
        if not self._owner.is_current:
            return
        with self._lock:
            self._shared.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
