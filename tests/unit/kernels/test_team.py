"""The thread team: steps, barriers, parking and waking, closing, aborting, and Ctrl-C at the wrong moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from llorch.errors import KernelError, SettingsError
from llorch.fields.table import FIELDS
from llorch.kernels import barrier as b
from llorch.kernels import step as st
from llorch.kernels import team as team_module
from llorch.kernels.buffers import Rows
from llorch.kernels.ops.add import add
from llorch.kernels.ops.select import select
from llorch.kernels.program import Program
from llorch.kernels.team import Team

PARK_SECONDS = 100
"""Far more than parking takes, on however busy a machine."""


class Chain:
    """A step of many instructions, each of which needs what other threads did just before.

    In every link each row is added to by its neighbour: ``rows += roll(rows)``. A thread that runs ahead of a barrier,
    an instruction that is left out and a share of rows that is not computed all change the result.
    """

    def __init__(self, n_rows: int = 8, n_links: int = 20) -> None:
        self.rows, self._neighbours = Rows.empty(n_rows, 16), Rows.empty(n_rows, 16)
        self.n_rows, self.n_links = n_rows, n_links
        program = Program()
        for _ in range(n_links):
            select(program, self.rows, self._neighbours)
            add(program, 0, self.rows, self._neighbours, self.rows)
        self.records = program.records()
        self.counters = np.zeros(len(program), np.int64)
        self.step = np.zeros(st.STEP_SIZE, np.int64)
        self.step[[st.N_ROWS, st.N_OUTPUTS]] = n_rows
        self.ids = np.roll(np.arange(n_rows, dtype=np.int32), 1)
        self.step[st.OUTPUT_ROW_IDS] = self.ids.ctypes.data

    def _beginning(self) -> np.ndarray:
        """Small whole numbers, which stay exact: a link at most doubles them."""
        return np.repeat(np.arange(self.n_rows, dtype=np.float32)[:, None] % 5, 16, axis=1)

    def run(self, team: Team, n_active: int | None = None) -> np.ndarray:
        self.rows.data[:] = self._beginning()
        team.run(self.records, 0, len(self.records), self.step, self.counters, n_active)
        return self.rows.data.copy()

    def expected(self) -> np.ndarray:
        rows = self._beginning()
        for _ in range(self.n_links):
            rows = rows + rows[self.ids]
        assert rows.max() < 2**24
        return rows


@pytest.fixture
def make_team() -> Iterator[Callable[[int], Team]]:
    made: list[Team] = []

    def make(n_threads: int) -> Team:
        made.append(Team(n_threads, 4096))
        return made[-1]

    yield make
    for team in made:
        team.close()


def n_llorch_threads() -> int:
    return sum(thread.name.startswith("llorch-") for thread in threading.enumerate())


def wait_until_parked(team: Team) -> None:
    deadline = time.monotonic() + PARK_SECONDS
    while not all(team._field(b.PARKED + i * b.LINE) for i in range(1, team.n_threads)):
        assert time.monotonic() < deadline, "the threads did not park"
        time.sleep(0.001)


def wait_until_there_are(n_threads: int) -> None:
    deadline = time.monotonic() + PARK_SECONDS
    while n_llorch_threads() > n_threads:
        assert time.monotonic() < deadline, "threads are left"
        time.sleep(0.001)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4, 7])
def test_threads_meet_at_every_barrier(n_threads: int, make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(n_threads)
    for _ in range(30 if n_threads <= 3 else 5):
        np.testing.assert_array_equal(chain.run(team), chain.expected())


def test_parked_threads_wake_for_the_next_step_again_and_again(make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(3)
    expected = chain.expected()
    np.testing.assert_array_equal(chain.run(team), expected)
    for _ in range(3):
        wait_until_parked(team)
        np.testing.assert_array_equal(chain.run(team), expected)


def test_steps_that_come_just_when_threads_park_are_not_lost(make_team: Callable[[int], Team]) -> None:
    """Sleeps around the time after which a thread parks, so that both sides of the race are met."""
    chain, team = Chain(n_links=3), make_team(2)
    expected = chain.expected()
    started = time.monotonic()
    chain.run(team)
    wait_until_parked(team)
    park_after = min(time.monotonic() - started, 0.02)
    for i in range(30):
        time.sleep(park_after * (0.7 + 0.6 * i / 30))
        np.testing.assert_array_equal(chain.run(team), expected)


def test_an_idle_team_costs_nothing(make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(2)
    chain.run(team)
    wait_until_parked(team)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_an_empty_range_of_instructions_is_nothing_to_do(make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(2)
    expected = chain.expected()
    for _ in range(50):
        team.run(chain.records, 3, 3, chain.step, chain.counters)
        np.testing.assert_array_equal(chain.run(team), expected)


@pytest.mark.parametrize("wait", [True, False], ids=["parked", "awake"])
def test_a_closed_team_has_no_threads_and_refuses_to_run(wait: bool) -> None:
    before = n_llorch_threads()
    chain, team = Chain(), Team(3, 4096)
    chain.run(team)
    if wait:
        wait_until_parked(team)
    team.close()
    team.close()
    assert n_llorch_threads() == before
    with pytest.raises(KernelError, match="closed"):
        chain.run(team)


def test_many_teams_come_and_go() -> None:
    before = n_llorch_threads()
    chain = Chain(n_links=2)
    for i in range(40):
        team = Team(3, 4096)
        if i % 2:
            chain.run(team)
        team.close()
    assert n_llorch_threads() == before


def test_two_teams_run_at_once(make_team: Callable[[int], Team]) -> None:
    results: list[np.ndarray] = []

    def work() -> None:
        chain, team = Chain(), make_team(2)
        results.extend(chain.run(team) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    for result in results:
        np.testing.assert_array_equal(result, Chain().expected())


def test_one_team_called_from_two_threads_runs_one_step_after_the_other(
    make_team: Callable[[int], Team],
) -> None:
    team = make_team(2)
    expected = Chain().expected()
    wrong: list[int] = []

    def work() -> None:
        chain = Chain()
        wrong.extend(i for i in range(30) if not np.array_equal(chain.run(team), expected))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_aborted_step_is_an_error_not_a_hang(make_team: Callable[[int], Team]) -> None:
    """The followers leave, and the lead must not wait at the barrier for them."""
    chain, team = Chain(), make_team(2)
    chain.run(team)
    team_module.set_field(team._address + b.ABORT, 1)
    with pytest.raises(KernelError, match="aborted"):
        chain.run(team)


@pytest.mark.parametrize("step_is_done", [True, False], ids=["after the step", "before the lead began"])
def test_ctrl_c_leaves_a_team_that_works_or_says_that_it_does_not(
    step_is_done: bool, make_team: Callable[[int], Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, team = Chain(), make_team(3)
    expected = chain.expected()
    run_steps = team_module.run_steps

    def interrupted(control: int, scratch: int, ith: int, generation: int) -> int:
        if ith == 0 and not step_is_done:
            raise KeyboardInterrupt
        reached = run_steps(control, scratch, ith, generation)
        if ith == 0:
            raise KeyboardInterrupt
        return reached

    monkeypatch.setattr(team_module, "run_steps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chain.run(team)
    monkeypatch.undo()
    if step_is_done:
        np.testing.assert_array_equal(chain.run(team), expected)
    else:
        with pytest.raises(KernelError, match="closed"):
            chain.run(team)
        team.close()
        assert not any(thread.is_alive() for thread in team._threads)


def test_any_number_of_threads_may_take_part_in_a_step(make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(4)
    expected = chain.expected()
    numbers = np.random.default_rng(0).integers(1, 5, 300)
    for i, n_active in enumerate(numbers.tolist()):
        if i % 60 == 59:
            time.sleep(0.05)  # long enough for the others to park
        np.testing.assert_array_equal(chain.run(team, n_active), expected)


def test_threads_that_take_no_part_park_while_others_compute(make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(2)
    chain.run(team)
    ended_s = time.perf_counter() + PARK_SECONDS
    while not team._field(b.PARKED + b.LINE) and time.perf_counter() < ended_s:
        chain.run(team, 1)
    assert team._field(b.PARKED + b.LINE)


def test_programs_and_counters_of_the_wrong_shape_are_refused(make_team: Callable[[int], Team]) -> None:
    chain, team = Chain(), make_team(1)
    with pytest.raises(ValueError, match="wrong shape"):
        team.run(chain.records[:, :8], 0, 1, chain.step, chain.counters)
    with pytest.raises(ValueError, match="wrong shape"):
        team.run(chain.records, 0, len(chain.records), chain.step, chain.counters[:-1])


def test_the_table_says_how_many_threads_a_team_can_have(make_team: Callable[[int], Team]) -> None:
    assert FIELDS["threads"].kind.limits["le"] == team_module.MAX_THREADS < b.ACTIVE_LIMIT
    for n_threads in (0, -1, team_module.MAX_THREADS + 1):
        with pytest.raises(SettingsError, match=f"threads: expected 1 to {team_module.MAX_THREADS}, got"):
            make_team(n_threads)
    chain = Chain(n_links=1)
    try:
        largest = make_team(team_module.MAX_THREADS)
    except SettingsError as error:  # in a container that grants few threads
        pytest.skip(str(error))
    np.testing.assert_array_equal(chain.run(largest), chain.expected())


def test_threads_that_cannot_be_started_are_an_error_that_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = n_llorch_threads()
    start = threading.Thread.start

    def start_or_fail(thread: threading.Thread) -> None:
        if thread.name == "llorch-3":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with pytest.raises(SettingsError, match="threads: 5 cannot be started"):
        Team(5, 64)
    wait_until_there_are(before)


@pytest.mark.parametrize("wait", [True, False], ids=["parked", "awake"])
def test_a_team_that_nobody_holds_ends_its_threads(wait: bool) -> None:
    before = n_llorch_threads()
    chain, team = Chain(), Team(3, 4096)
    chain.run(team)
    if wait:
        wait_until_parked(team)
    del team
    wait_until_there_are(before)
