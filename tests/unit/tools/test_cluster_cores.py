from __future__ import annotations

from typing import Any

import pytest

from tools.performance.cluster.cores import Machine


def first_end(machine: Machine, now_s: float) -> tuple[Any, Any]:
    found = machine.next_end(now_s)
    assert found is not None
    return found[1], found[0]


def test_work_alone_takes_its_time() -> None:
    machine = Machine(2)
    machine.begin("a", 0, 2.0, 3.0, now_s=1.0)
    assert first_end(machine, 1.0) == ("a", pytest.approx(3.0))


def test_who_shares_a_core_takes_turns() -> None:
    machine = Machine(1)
    machine.begin("a", 0, 1.0, 1.0, now_s=0.0)
    machine.begin("b", 0, 2.0, 2.0, now_s=0.0)
    assert first_end(machine, 0.0) == ("a", pytest.approx(2.0))
    machine.drop("a", 2.0)
    assert first_end(machine, 2.0) == ("b", pytest.approx(3.0))
    machine.drop("b", 3.0)
    assert machine.next_end(3.0) is None
    assert machine.busy_s == pytest.approx(3.0)


def test_another_busy_core_slows_memory_down_as_measured() -> None:
    machine = Machine(2)
    machine.begin("a", 0, 1.0, 1.5, now_s=0.0)
    machine.begin("b", 1, 9.0, 9.0, now_s=0.0)
    assert first_end(machine, 0.0) == ("a", pytest.approx(1.5))
    machine.drop("b", 0.75)  # half of `a` is done; the rest goes on alone
    assert first_end(machine, 0.75) == ("a", pytest.approx(1.25))


def test_few_busy_cores_of_many_slow_down_in_proportion() -> None:
    machine = Machine(5)
    machine.begin("a", 0, 1.0, 1.8, now_s=0.0)
    machine.begin("b", 1, 9.0, 9.0, now_s=0.0)
    assert first_end(machine, 0.0) == ("a", pytest.approx(1.2))
