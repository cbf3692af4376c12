"""List scheduling: small graphs by hand, and what holds for every graph."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.trace.simulate.critical_chain import HANDOVER, MEMORY, chain_seconds, critical_chain
from llorch.trace.simulate.graph import Machine, Node, critical_path, least_seconds
from llorch.trace.simulate.schedule import NO_ENGINE, Schedule, schedule

FAST = 1e30
"""Bytes per second of a memory that nothing waits for."""


def node(
    work_s: float, *after: int, n_bytes: float = 0.0, label: str = "x", needs_engine: bool = True
) -> Node:
    return Node(label, 0, work_s, n_bytes, after, needs_engine=needs_engine)


def times(run: Schedule) -> list[tuple[int, float, float]]:
    return [(p.engine, p.begun_s, p.ended_s) for p in run.placements]


DIAMOND = [node(1), node(4, 0), node(2, 0), node(1, 1, 2)]


def test_one_engine_takes_the_sum_of_all_work() -> None:
    run = schedule(DIAMOND, Machine(1, FAST))
    assert times(run) == [(0, 0, 1), (0, 1, 5), (0, 5, 7), (0, 7, 8)]
    assert (run.makespan_s, run.utilisation) == (8, 1)


def test_independent_nodes_run_at_once_and_the_longer_chain_begins_first() -> None:
    run = schedule(DIAMOND, Machine(2, FAST))
    assert times(run) == [(0, 0, 1), (0, 1, 5), (1, 1, 3), (0, 5, 6)]
    assert run.makespan_s == 6
    assert list(run.busy_s) == [6, 2]
    assert run.utilisation == 8 / 12
    assert critical_path(DIAMOND, FAST) == critical_chain(DIAMOND, run) == [0, 1, 3]


def test_nodes_in_the_order_of_the_program_begin_in_that_order() -> None:
    nodes = [node(1), node(1), node(5)]
    assert times(schedule(nodes, Machine(2, FAST), in_program_order=True)) == [
        (0, 0, 1),
        (1, 0, 1),
        (0, 1, 6),
    ]
    assert schedule(nodes, Machine(2, FAST)).makespan_s == 5


def test_a_result_of_another_engine_comes_later_and_one_of_its_own_does_not() -> None:
    nodes = [node(2), node(1), node(1, 0, 1)]
    run = schedule(nodes, Machine(2, FAST, handover_s=0.5))
    assert times(run)[2] == (0, 2, 3), "the other result was there half a second after 1"
    nodes = [node(2), node(2), node(1, 0, 1)]
    run = schedule(nodes, Machine(2, FAST, handover_s=0.5))
    assert times(run)[2] == (0, 2.5, 3.5)
    assert chain_seconds(nodes, run) == {"x": 3, HANDOVER: 0.5}


def test_a_node_ends_when_it_has_computed_and_its_bytes_are_there() -> None:
    nodes = [node(1, n_bytes=30, label="big"), node(2, 0, n_bytes=10)]
    run = schedule(nodes, Machine(1, 10))
    assert times(run) == [(0, 0, 3), (0, 3, 5)]
    assert run.utilisation == 3 / 5
    assert run.memory_s == 4
    assert chain_seconds(nodes, run) == {"x": 2, MEMORY: 2, "big": 1}


def test_transfers_at_once_share_the_memory_equally() -> None:
    nodes = [node(0, n_bytes=10), node(0, n_bytes=30)]
    run = schedule(nodes, Machine(2, 10))
    assert sorted(p.ended_s for p in run.placements) == [2, 4]
    assert run.memory_utilisation == 1


def test_a_transfer_that_begins_later_slows_the_one_under_way() -> None:
    nodes = [node(0, n_bytes=40), node(1), node(0, 1, n_bytes=10)]
    run = schedule(nodes, Machine(2, 10))
    assert [p.ended_s for p in run.placements] == [5, 1, 3], "10 alone, 10 and 10 in two seconds, 20 alone"


def test_a_delay_takes_no_engine() -> None:
    nodes = [node(3, needs_engine=False), node(1), node(1, 0)]
    assert times(schedule(nodes, Machine(1, FAST))) == [(NO_ENGINE, 0, 3), (0, 0, 1), (0, 3, 4)]


def test_nothing_takes_no_time() -> None:
    run = schedule([], Machine(3, 1.0))
    assert (run.makespan_s, run.utilisation, run.memory_utilisation) == (0, 0, 0)
    assert critical_chain([], run) == critical_path([], 1.0) == []


def test_a_node_cannot_wait_for_a_later_one_nor_run_on_no_engine() -> None:
    with pytest.raises(ValueError, match="node 0 waits for"):
        schedule([node(1, 0)], Machine(1, FAST))
    with pytest.raises(ValueError, match="n_engines: expected at least 1, got 0"):
        schedule(DIAMOND, Machine(0, FAST))


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Up to 25 nodes that wait for up to three earlier ones."""
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, 25))):
        after = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        work_s, n_bytes = draw(st.integers(0, 50)), draw(st.integers(0, 50))
        nodes.append(node(work_s, *sorted(after), n_bytes=n_bytes, needs_engine=draw(st.integers(0, 9)) > 0))
    return nodes


machines = st.builds(
    Machine, st.integers(1, 6), st.sampled_from([0.5, 3.0, FAST]), st.sampled_from([0.0, 0.25, 7.0])
)
SLACK = 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(graphs(), machines, st.booleans())
def test_no_schedule_breaks_a_rule_of_its_machine(
    nodes: list[Node], machine: Machine, in_order: bool
) -> None:
    run = schedule(nodes, machine, in_program_order=in_order)
    placed = run.placements
    for i, (own, p) in enumerate(zip(nodes, placed, strict=True)):
        assert (p.engine == NO_ENGINE) == (not own.needs_engine)
        assert p.computed_s == p.begun_s + own.work_s
        assert p.ended_s * SLACK >= p.begun_s + own.n_bytes / machine.bytes_per_s
        for j in own.after:
            is_moved = NO_ENGINE not in (p.engine, placed[j].engine) and p.engine != placed[j].engine
            assert p.begun_s >= placed[j].ended_s + (machine.handover_s if is_moved else 0), (i, j)
    for engine in range(machine.n_engines):
        own_times = sorted((p.begun_s, p.ended_s) for p in placed if p.engine == engine)
        assert all(a[1] <= b[0] for a, b in pairwise(own_times))
    assert run.makespan_s == max(p.ended_s for p in placed)
    assert 0 <= run.utilisation <= 1
    assert 0 <= run.memory_utilisation <= 1
    assert run == schedule(nodes, machine, in_program_order=in_order)


@settings(max_examples=60, deadline=None)
@given(graphs(), machines)
def test_no_schedule_is_shorter_than_work_memory_and_dependencies_allow(
    nodes: list[Node], machine: Machine
) -> None:
    run = schedule(nodes, machine)
    at_least = max(
        sum(n.work_s for n in nodes if n.needs_engine) / machine.n_engines,
        sum(n.n_bytes for n in nodes) / machine.bytes_per_s,
        sum(least_seconds(nodes[i], machine.bytes_per_s) for i in critical_path(nodes, machine.bytes_per_s)),
    )
    assert run.makespan_s * SLACK >= at_least
    assert sum(chain_seconds(nodes, run).values()) == pytest.approx(run.makespan_s)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 6))
def test_schedules_without_transfers_and_hand_overs_are_as_short_as_graham_says(
    nodes: list[Node], n_engines: int
) -> None:
    """Source: R. L. Graham, Bounds on Multiprocessing Timing Anomalies (1969), theorem 1 for one machine."""
    bare = [Node("x", 0, n.work_s, 0.0, n.after) for n in nodes]
    longest = sum(bare[i].work_s for i in critical_path(bare, FAST))
    total = sum(n.work_s for n in bare)
    assert (
        schedule(bare, Machine(n_engines, FAST)).makespan_s
        <= total / n_engines + longest * (1 - 1 / n_engines) + 1e-6
    )
    assert schedule(bare, Machine(len(bare), FAST)).makespan_s == longest
