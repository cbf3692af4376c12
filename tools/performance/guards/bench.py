"""A kernel and its roof, measured by turns of a millisecond: how near the kernel comes to the roof.

Both sides are single threads, and what counts is the CPU time of the thread: what other programs take of the cores does
not. What they take of the caches and of memory's speed does, so the two sides alternate, and the statistic is the one
that moved least. Measured with 30 turns, 20 times on two quiet cores of a Zen 4 (in a virtual machine, whose host has
other work), 10 times with a process on each core that computes, and 10 times with one on each core that reads memory.
Standard deviations, and in brackets the largest change of the median from quiet to busy:

    operands in a cache: ratio of minima 0.4 to 0.5 %, busy up to 2.3 % (2 %; norm, whose rows lay in the second cache
        then, 12.5 %); median of the ratios of neighbours 1.1 to
        1.7 %, busy up to 16 % (15 %); ratio of the lower fifths 0.6 to 1.2 %, busy up to 5 % (10 %). Eight seldom
        turns of a product of Q4_K were 10 % slow by either.
    streaming from memory: median of neighbours 1.7 to 2.3 %, busy 2.4 % (8 %); ratio of minima 3 to 6 % (a minimum is a
        lucky moment of the memory); ratio of the lower fifths 1.9 % (10 %)

Wall time is as good as CPU time on a quiet machine, and of no use on a busy one.

The roof of a streaming kernel is the time of its bytes and that of its multiply-adds, added. Bytes alone moved by 24 to
34 % for eight tokens, which arithmetic bounds on one core; twice to five times the multiply-adds were steadier
(0.5 to 1 %) until other processes read memory, which moved them by 14 to 20 %, and this by 8 %.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import peaks
from llorch.kernels.jit import Unit, load_units
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.machine.memory import aligned_bytes

Kind: TypeAlias = Literal["int8", "float32"]

SAMPLE_SECONDS = 0.7e-3
N_ROUNDS = 4
N_TURNS = 10
"""Of a kernel in a round."""
N_TURNS_STREAMING = 25
LEAST_TURNS, MOST_SECONDS = 5, 0.12
"""Of a kernel in a round: slow ones take fewer turns."""
N_REPEATS = 360
"""Instructions of a program that does the same again and again."""
PLANTABLE = (7, 13, 20, 40, 60, 80, 120)
"""Instructions of a sample: numbers of which 15 % is nearly whole, so that so much more work can be planted."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A kernel to be measured.

    Attributes:
        name: of its entry in the records.
        program: instructions of the same size; a sample is a run of them.
        step: int64 (STEP_SIZE,), what they run with.
        n_macs: multiply-adds of one instruction, or whatever number of them stands for its work.
        kind: whose roof they are measured by.
        n_bytes: bytes that one instruction takes from memory; 0 where all operands stay in caches.
        stream: address of the bytes of the first instruction; those of the others follow.
        keep: what the addresses in `step` point into.
    """

    name: str
    program: Program
    step: NDArray[np.int64]
    n_macs: int
    kind: Kind
    n_bytes: int = 0
    stream: int = 0
    keep: tuple[object, ...] = field(default=(), repr=False)


def thread_seconds(run: Callable[[], object]) -> float:
    """CPU time of this thread that a call takes."""
    begun = time.thread_time()
    run()
    return time.thread_time() - begun


_MULTIPLIERS: dict[Kind, tuple[Unit, int]] = {
    "int8": (peaks.multiply_integers, peaks.INTEGER_MACS),
    "float32": (peaks.multiply_floats, peaks.FLOAT_MACS),
}
"""Units of the roofs, and the multiply-adds of a turn."""


class Bench:
    """What kernels and roofs run on: one thread, operands in its first cache.

    Args:
        scratch_bytes: of the thread.
    """

    def __init__(self, scratch_bytes: int) -> None:
        load_units(peaks.UNITS)
        self.team = Team(1, scratch_bytes)
        self._operands = aligned_bytes(peaks.OPERAND_BYTES)
        self._operands[:] = 1
        self._at = int(self._operands.ctypes.data)
        self._turns: dict[Kind, int] = {kind: self._turns_of(kind) for kind in _MULTIPLIERS}

    def _turns_of(self, kind: Kind) -> int:
        unit, _ = _MULTIPLIERS[kind]
        n = 10_000
        least = min(thread_seconds(lambda: unit(self._at, n)) for _ in range(10))
        return max(1, round(n * SAMPLE_SECONDS / least))

    def integers_by_floats(self) -> float:
        """Speed of int8 multiply-adds by that of float32: a loss in the instruction that products and their roof are
        both made of shows in no other ratio."""
        pairs = [
            (self.seconds_a_mac("float32"), self.seconds_a_mac("int8")) for _ in range(N_ROUNDS * N_TURNS)
        ]
        return min(a for a, _ in pairs) / min(b for _, b in pairs)

    def ratios(self, group: Sequence[Guard], planted: float = 0.0) -> dict[str, float]:
        """Seconds that the roofs take for the work of kernels, by the seconds of the kernels, by name.

        Where bytes stream, reading and multiplying are added, and a kernel that does both at once may have more than 1.
        The kernels take turns, too, so that what disturbs a tenth of a second does not disturb all of one.

        Args:
            group: the kernels.
            planted: how much work is added that does not count, as a share: what a loss of speed looks like.
        """
        runs = [_Run(self, guard, planted) for guard in group]
        for _ in range(N_ROUNDS):
            for run in runs:
                run.take_turns()
        return {run.guard.name: run.ratio() for run in runs}

    def seconds_a_mac(self, kind: Kind) -> float:
        """Seconds of a multiply-add at the roof."""
        unit, macs = _MULTIPLIERS[kind]
        n = self._turns[kind]
        return thread_seconds(lambda: unit(self._at, n)) / (n * macs)

    def read_seconds(self, address: int, n_bytes: int) -> float:
        """Seconds of reading some bytes once."""
        n_turns = n_bytes // peaks.READ_BYTES
        read = thread_seconds(lambda: peaks.read_memory(address, n_turns, 1, self._at))
        return read * n_bytes / (n_turns * peaks.READ_BYTES)

    def close(self) -> None:
        """Stop the thread team."""
        self.team.close()


class _Run:
    """A kernel that is being measured: where it is in its program, and the seconds of all turns so far."""

    def __init__(self, bench: Bench, guard: Guard, planted: float) -> None:
        self.guard, self._bench = guard, bench
        self._records = guard.program.records()
        self._counters = np.zeros(len(guard.program), np.int64)
        wanted = SAMPLE_SECONDS / min(self._kernel_seconds(0, 1) for _ in range(5))
        possible = [n for n in PLANTABLE if 3 * n <= len(guard.program)]
        self._n = min(possible, key=lambda n: abs(n - wanted))
        self._n_run = self._n + round(self._n * planted)
        self._at = 0
        self._roofs: list[float] = []
        self._kernels: list[float] = []
        self._around: list[float] = []

    def _kernel_seconds(self, first: int, n: int) -> float:
        team, step = self._bench.team, self.guard.step
        return thread_seconds(lambda: team.run(self._records, first, first + n, step, self._counters))

    def _roof_seconds(self) -> float:
        guard = self.guard
        seconds = self._bench.seconds_a_mac(guard.kind) * guard.n_macs * self._n
        if guard.n_bytes:  # those that follow, so that each byte is taken once before all others are
            address, n_bytes = guard.stream + self._at * guard.n_bytes, self._n * guard.n_bytes
            seconds += self._bench.read_seconds(address, n_bytes)
            self._at += self._n
        return seconds

    def take_turns(self) -> None:
        """One round: roof, kernel, roof, kernel, roof and so on."""
        begun = time.thread_time()
        before = 0.0
        for turn in range(N_TURNS_STREAMING if self.guard.n_bytes else N_TURNS):
            if turn >= LEAST_TURNS and time.thread_time() - begun > MOST_SECONDS:
                break
            if self._at + self._n_run + self._n > len(self.guard.program):
                self._at = 0
            kernel = self._kernel_seconds(self._at, self._n_run)
            self._at += self._n_run
            after = self._roof_seconds()
            if before:
                self._around.append((before + after) / 2 / kernel)
            self._kernels.append(kernel)
            self._roofs.append(after)
            before = after

    def ratio(self) -> float:
        """Of all turns."""
        if self.guard.n_bytes:
            return statistics.median(self._around)
        return min(self._roofs) / min(self._kernels)
