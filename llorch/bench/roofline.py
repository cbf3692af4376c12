"""The roof over every operation: how fast this machine reads and multiplies at most, measured."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.bench.work import Kind, Work
from llorch.errors import LlorchError
from llorch.kernels import peaks
from llorch.kernels.jit import Unit, load_units
from llorch.kernels.weights.float_dots import HAS_BF16
from llorch.machine.caches import last_cache_bytes
from llorch.machine.memory import HUGE_PAGE, aligned_bytes, available_memory

N_ROUNDS = 8
"""Measurements of each peak; the best counts."""

LEAST_MEMORY, MOST_MEMORY = 32 << 20, 1 << 30

ROUND_SECONDS = 0.01
FIRST_TURNS = 1000
"""Of a loop, to find out how many turns take `ROUND_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """Peaks of all threads together.

    Attributes:
        bytes_per_s: read from memory.
        integer_macs_per_s: multiply-adds of the instruction that integer products are made of on this kernel path.
        bfloat_macs_per_s: multiply-adds of BF16 in pairs; as of float32 where the CPU has no instruction for them.
        float_macs_per_s: multiply-adds of float32.
        cache_bytes_per_s: read from the first cache; what does not come from memory cannot be faster.
    """

    bytes_per_s: float
    integer_macs_per_s: float
    bfloat_macs_per_s: float
    float_macs_per_s: float
    cache_bytes_per_s: float = float("inf")

    def seconds(self, work: Work) -> float:
        """The least time that `work` can take."""
        return max(
            work.n_macs / self.macs_per_s(work.kind),
            work.n_streamed / self.bytes_per_s,
            work.n_bytes / self.cache_bytes_per_s,
        )

    def macs_per_s(self, kind: Kind) -> float:
        """The peak that bounds work of a kind."""
        return {
            "integer": self.integer_macs_per_s,
            "bfloat": self.bfloat_macs_per_s,
            "float": self.float_macs_per_s,
        }[kind]

    def share(self, work: Work, seconds: float) -> float:
        """How much of `seconds` the work had to take: 1 is as fast as this machine can be."""
        return self.seconds(work) / seconds if seconds > 0 else 0.0


def measure_roofline(n_threads: int) -> Roofline:
    """Measure the peaks of `n_threads` threads, in about a second.

    Raises:
        LlorchError: too little memory is free.
    """
    load_units(peaks.UNITS)
    n_bytes = max(4 * last_cache_bytes(), 128 << 20)
    n_bytes = min(n_bytes, MOST_MEMORY, available_memory() // 4) // HUGE_PAGE * HUGE_PAGE
    if n_bytes < LEAST_MEMORY:
        raise LlorchError("too little memory is free to measure how fast it is read")
    with _Bench(n_threads, n_bytes) as bench:
        floats = bench.floats()
        bfloats = bench.bfloats() if HAS_BF16 else floats
        return Roofline(bench.memory(), bench.integers(), bfloats, floats, bench.cache())


class _Bench:
    """Threads, and what they work on; a context manager."""

    def __init__(self, n_threads: int, n_bytes: int) -> None:
        self._n = n_threads
        self._memory = aligned_bytes(n_bytes, HUGE_PAGE)
        self._operands = np.ones((n_threads, peaks.OPERAND_BYTES), np.uint8)
        numbers, self._own = itertools.count(), threading.local()
        self._pool = ThreadPoolExecutor(
            n_threads, initializer=lambda: setattr(self._own, "ith", next(numbers))
        )
        self._ready = threading.Barrier(n_threads)
        share = n_bytes // n_threads // peaks.READ_BYTES * peaks.READ_BYTES
        self._shares = [self._memory[i * share : (i + 1) * share] for i in range(n_threads)]
        self._run(lambda ith: self._shares[ith].fill(1))  # each page lies where its reader runs

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def _run(self, run: Callable[[int], object]) -> NDArray[np.float64]:
        """Run ``run(ith)`` on all threads at once; returns the seconds of CPU that each took.

        What other programs take of the cores does not count.
        """

        seconds = np.zeros(self._n)

        def timed(_: int) -> None:
            self._ready.wait()  # so that each thread takes one turn
            begun, ith = time.thread_time(), self._own.ith
            run(ith)
            seconds[ith] = time.thread_time() - begun

        list(self._pool.map(timed, range(self._n)))
        return seconds

    def memory(self) -> float:
        """Bytes per second that all threads together read from memory."""
        n_turns = len(self._shares[0]) // peaks.READ_BYTES

        def read(ith: int) -> int:
            return peaks.read_memory(self._shares[ith].ctypes.data, n_turns, 1, self._operand(ith))

        return self._best(read, n_turns * peaks.READ_BYTES)

    def integers(self) -> float:
        """Integer multiply-adds per second of all threads."""
        return self._peak(self._on_operands(peaks.multiply_integers), peaks.INTEGER_MACS)

    def floats(self) -> float:
        """Multiply-adds of float32 per second of all threads."""
        return self._peak(self._on_operands(peaks.multiply_floats), peaks.FLOAT_MACS)

    def bfloats(self) -> float:
        """Multiply-adds of BF16 in pairs per second of all threads, where the CPU has an instruction for them."""
        return self._peak(self._on_operands(peaks.multiply_bfloats), peaks.BFLOAT_MACS)

    def cache(self) -> float:
        """Bytes per second that all threads read from their first caches."""
        n_turns = peaks.OPERAND_BYTES // peaks.READ_BYTES

        def read(ith: int, n_passes: int) -> int:
            return peaks.read_memory(self._operand(ith), n_turns, n_passes, self._operand(ith))

        return self._peak(read, peaks.OPERAND_BYTES)

    def _on_operands(self, unit: Unit) -> Callable[[int, int], int]:
        return lambda ith, n_turns: unit(self._operand(ith), n_turns)

    def _peak(self, run: Callable[[int, int], int], per_turn: int) -> float:
        """What all threads do per second by ``run(ith, n_turns)``."""
        first = self._run(lambda ith: run(ith, FIRST_TURNS)).min()
        n_turns = max(FIRST_TURNS, int(FIRST_TURNS * ROUND_SECONDS / first))
        return self._best(lambda ith: run(ith, n_turns), n_turns * per_turn)

    def _best(self, run: Callable[[int], int], per_thread: int) -> float:
        return max(float((per_thread / self._run(run)).sum()) for _ in range(N_ROUNDS))

    def _operand(self, ith: int) -> int:
        return int(self._operands[ith].ctypes.data)
