from __future__ import annotations

import pytest

from tools.performance.cluster.cores import SLICE_S, UNDISTURBED_S, Machine, Thread

A, B, C = (Thread(i, "step") for i in range(3))
LOOP = Thread(0, "loop")
CLIENT = Thread(-1, "client")


def ends(machine: Machine, now_s: float = 0.0) -> dict[Thread, float]:
    """When everything under way ends, if nothing else begins."""
    found: dict[Thread, float] = {}
    while (change_s := machine.next_change(now_s)) is not None:
        now_s = change_s
        found |= dict.fromkeys(machine.advance(now_s), now_s)
    return found


def test_work_alone_takes_its_time() -> None:
    machine = Machine(2)
    machine.begin(A, [0], 2.0, 3.0, now_s=1.0)
    assert ends(machine, 1.0) == {A: pytest.approx(3.0)}


def test_who_computes_on_one_core_takes_turns() -> None:
    machine = Machine(1)
    machine.begin(A, [0], 10 * SLICE_S, 1.0, now_s=0.0)
    machine.begin(B, [0], 20 * SLICE_S, 1.0, now_s=0.0)
    assert ends(machine) == {A: pytest.approx(19 * SLICE_S), B: pytest.approx(30 * SLICE_S)}
    assert machine.cpu_s["step"] == pytest.approx(30 * SLICE_S)


def test_a_thread_that_goes_on_at_once_keeps_its_turn() -> None:
    machine = Machine(1)
    machine.begin(A, [0], SLICE_S / 2, 0.0, now_s=0.0)
    machine.begin(B, [0], SLICE_S, 0.0, now_s=0.0)
    assert machine.next_change(0.0) == SLICE_S / 2
    assert machine.advance(SLICE_S / 2) == [A]
    machine.begin(A, [0], SLICE_S, 0.0, now_s=SLICE_S / 2)
    assert ends(machine, SLICE_S / 2) == {B: pytest.approx(2 * SLICE_S), A: pytest.approx(2.5 * SLICE_S)}


def test_caches_are_cold_where_two_compute_in_turns() -> None:
    machine = Machine(1, shared=1.5)
    machine.begin(A, [0], 1.0, 1.0, now_s=0.0)
    machine.begin(B, [0], 2.0, 2.0, now_s=0.0)
    found = ends(machine)
    assert found[A] == pytest.approx(3.0, abs=2 * SLICE_S)
    assert found[B] == pytest.approx(4.0, abs=2 * SLICE_S)  # three seconds in company, one alone


def test_who_wakes_up_for_a_moment_interrupts_a_thread_that_computes_alone() -> None:
    machine = Machine(1)
    machine.begin(A, [0], 1.0, 1.0, now_s=0.0)
    machine.begin(LOOP, [0], 0.0001, 0.0001, now_s=0.0)
    assert ends(machine) == {LOOP: pytest.approx(0.0001), A: pytest.approx(1.0001)}


def test_among_several_a_thread_is_left_alone_for_a_while() -> None:
    machine = Machine(1)
    machine.begin(A, [0], 1.0, 1.0, now_s=0.0)
    machine.begin(B, [0], 1.0, 1.0, now_s=0.0)
    machine.begin(LOOP, [0], 0.0001, 0.0001, now_s=0.0)
    assert ends(machine)[LOOP] == pytest.approx(UNDISTURBED_S + 0.0001)


def test_a_moment_that_is_long_is_interrupted_too() -> None:
    machine = Machine(1)
    machine.begin(A, [0], 1.0, 1.0, now_s=0.0)
    machine.begin(LOOP, [0], 2 * UNDISTURBED_S, 0.0, now_s=0.0)
    assert ends(machine)[LOOP] == pytest.approx(3 * UNDISTURBED_S)


def test_who_is_not_pinned_takes_the_core_with_fewest_threads() -> None:
    machine = Machine(2)
    machine.begin(A, [0], 1.0, 1.0, now_s=0.0)
    machine.begin(CLIENT, [0, 1], 0.5, 0.5, now_s=0.0)
    assert ends(machine) == {CLIENT: pytest.approx(0.5), A: pytest.approx(1.0)}
    assert machine.cpu_s == {"step": pytest.approx(1.0), "client": pytest.approx(0.5), "loop": 0.0}


def test_another_busy_core_slows_memory_down_as_measured() -> None:
    machine = Machine(2)
    machine.begin(A, [0], 1.0, 1.5, now_s=0.0)
    machine.begin(B, [1], 9.0, 9.0, now_s=0.0)
    assert machine.next_change(0.0) == pytest.approx(1.5)
    machine.drop(B, 0.75)  # half of A is done; the rest goes on alone
    assert ends(machine, 0.75) == {A: pytest.approx(1.25)}


def test_few_busy_cores_of_many_slow_down_in_proportion() -> None:
    machine = Machine(5)
    machine.begin(A, [0], 1.0, 1.8, now_s=0.0)
    machine.begin(B, [1], 9.0, 9.0, now_s=0.0)
    assert ends(machine)[A] == pytest.approx(1.2)
    assert machine.next_change(99.0) is None
    machine.drop(C, 99.0)  # nothing of that name
