"""Room for stamps of forward passes, filled by a team of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.jit import load_units
from llorch.kernels.ops.add import add
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.observe.stamps import Stamps

N_INSTRUCTIONS = 9
PASS_BYTES = 64 + 2 * 192  # a head, and for each thread nine pairs of eight bytes in whole cache lines


class Passes:
    """Runs passes of a program that does nothing worth mentioning, on two threads."""

    def __init__(self) -> None:
        rows, program = Rows.empty(1, 16), Program()
        for _ in range(N_INSTRUCTIONS):
            add(program, -1, rows, rows, rows)
        load_units(program.units())
        self.team, self._records, self._rows = Team(2, 0), program.records(), rows
        self._counters = np.zeros((N_INSTRUCTIONS, 1), np.int64)
        self._step = np.zeros(st.STEP_SIZE, np.int64)
        self._step[st.N_ROWS], self._step[st.TEAM_THREADS] = 1, 2

    def run(
        self, stamps: Stamps | None, first: int = 0, last: int = N_INSTRUCTIONS, n_active: int = 2
    ) -> None:
        """Instructions ``first <= i < last``."""
        self._step[st.STAMPS] = stamps.address if stamps is not None else 0
        self.team.run(self._records, first, last, self._step, self._counters, n_active)


@pytest.fixture
def passes() -> Iterator[Passes]:
    passes = Passes()
    yield passes
    passes.team.close()


def in_time(ticks: NDArray[np.int64]) -> bool:
    """Whether every thread began and ended one instruction after the other.

    Of different threads nothing can be asked: a core reads its counter before it has seen that a barrier is open.
    """
    each = np.diff(ticks.transpose(1, 0, 2).reshape(ticks.shape[1], -1), prepend=1)
    return bool((each >= 0).all())


def test_a_pass_is_overwritten_by_the_next_unless_passes_are_kept(passes: Passes) -> None:
    stamps = Stamps(N_INSTRUCTIONS, 2)
    passes.run(stamps)
    first = stamps.ticks.copy()
    assert first.shape == (N_INSTRUCTIONS, 2, 2)
    assert in_time(first)
    passes.run(stamps)
    assert in_time(np.concatenate([first, stamps.ticks]))
    passes.run(None)
    assert stamps.ticks.max() > first.max()


def test_passes_that_are_kept_stay_and_those_without_room_are_counted(passes: Passes) -> None:
    stamps = Stamps(N_INSTRUCTIONS, 2, 4 * PASS_BYTES + 100)
    assert (stamps.n_room, stamps.n_begun) == (4, 0)
    for _ in range(3):
        passes.run(stamps)
    passes.run(None)
    assert stamps.n_begun == 3
    passes.run(stamps)
    kept = np.concatenate([stamps.of_pass(i) for i in range(4)])
    assert in_time(kept)
    for _ in range(2):
        passes.run(stamps)
    assert (stamps.n_room, stamps.n_begun) == (4, 6)
    np.testing.assert_array_equal(np.concatenate([stamps.of_pass(i) for i in range(4)]), kept)


def test_without_any_room_nothing_is_written(passes: Passes) -> None:
    stamps = Stamps(N_INSTRUCTIONS, 2, 0)
    passes.run(stamps)
    assert (stamps.n_room, stamps.n_begun) == (0, 1)
    assert not stamps.of_pass(0).size


def test_a_pass_has_stamps_of_its_own_instructions_and_threads(passes: Passes) -> None:
    stamps = Stamps(N_INSTRUCTIONS, 2, 2 * PASS_BYTES)
    passes.run(stamps, last=5, n_active=1)
    passes.run(stamps)
    assert stamps.of_pass(0).shape == (5, 1, 2)
    assert in_time(stamps.of_pass(0))
    assert stamps.of_pass(1).shape == (N_INSTRUCTIONS, 2, 2)


def test_a_pass_that_is_run_piece_by_piece_is_one(passes: Passes) -> None:
    stamps = Stamps(N_INSTRUCTIONS, 2, 2 * PASS_BYTES)
    passes.run(stamps, 0, 4)
    passes.run(stamps, 4, N_INSTRUCTIONS)
    assert stamps.n_begun == 1
    assert stamps.of_pass(0).shape == (N_INSTRUCTIONS, 2, 2)
    assert in_time(stamps.of_pass(0))
