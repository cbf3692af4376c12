"""Simulated steps as tracks of a timeline: a process for each, a track for each of its engines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from llorch.trace.perfetto import Timeline
from llorch.trace.simulate.critical_chain import critical_chain
from llorch.trace.simulate.graph import Node
from llorch.trace.simulate.schedule import Placement
from llorch.trace.simulate.simulation import SHARED, Outcome

CATEGORY = "simulated"
MEMORY_WAIT = "waits for memory"
TRANSFERS = "transfers"
"""A counter: how many nodes share the memory channel."""


def add_outcomes(timeline: Timeline, outcomes: Sequence[Outcome], begun_ns: int) -> None:
    """Add simulated steps to a timeline, all of them from `begun_ns` on."""
    for outcome in outcomes:
        _add(timeline, outcome, begun_ns)


def process_of(outcome: Outcome) -> str:
    """The name of an outcome's tracks."""
    n = outcome.schedule.machine.n_engines
    return f"simulated: {n} engine{'s' if n > 1 else ''}, {outcome.policy}"


def _add(timeline: Timeline, outcome: Outcome, begun_ns: int) -> None:
    tracks = [
        timeline.track(process_of(outcome), f"engine {i}", i)
        for i in range(outcome.schedule.machine.n_engines)
    ]
    chain = set(critical_chain(outcome.nodes, outcome.schedule))

    def at(seconds: float) -> int:
        return begun_ns + round(seconds * 1e9)

    for engine, track in enumerate(tracks):
        for node, placement, is_critical in engine_pieces(outcome, engine, chain):
            args: dict[str, object] = {
                "layer": node.layer,
                "bytes": round(node.n_bytes),
                "critical": is_critical,
            }
            if node.part:
                args["part"] = node.part
            begin_ns, end_ns = at(placement.begun_s), at(placement.ended_s)
            timeline.slice(track, node.label, begin_ns, end_ns, CATEGORY, args)
            if at(placement.computed_s) < end_ns:
                timeline.slice(track, MEMORY_WAIT, at(placement.computed_s), end_ns, CATEGORY)
    for seconds, n in transfers(outcome):
        timeline.counter(process_of(outcome), TRANSFERS, at(seconds), n)


def engine_pieces(outcome: Outcome, engine: int, chain: set[int]) -> list[tuple[Node, Placement, bool]]:
    """What an engine does, in order, and whether it is critical; pieces of one operation in a row are one piece."""
    placements = outcome.schedule.placements
    order = sorted(
        (i for i, placement in enumerate(placements) if placement.engine == engine),
        key=lambda i: (placements[i].begun_s, i),
    )
    pieces: list[tuple[Node, Placement, bool]] = []
    for i in order:
        node, placement, is_critical = outcome.nodes[i], placements[i], i in chain
        if pieces and outcome.policy == SHARED and _is_same(pieces[-1][0], node):
            before, placed, was_critical = pieces.pop()
            waited_s = placed.ended_s - placed.computed_s
            node = replace(node, n_bytes=before.n_bytes + node.n_bytes)
            computed_s, ended_s = placement.computed_s - waited_s, placement.ended_s
            placement = Placement(engine, placed.begun_s, computed_s, delivered_s=ended_s)
            is_critical = is_critical or was_critical
        pieces.append((node, placement, is_critical))
    return pieces


def _is_same(a: Node, b: Node) -> bool:
    return (a.label, a.layer) == (b.label, b.layer)


def transfers(outcome: Outcome) -> list[tuple[float, int]]:
    """From when on how many transfers are under way."""
    changes: defaultdict[float, int] = defaultdict(int)
    for placement in outcome.schedule.placements:
        if placement.delivered_s > placement.begun_s:
            changes[placement.begun_s] += 1
            changes[placement.delivered_s] -= 1
    times = sorted(changes)
    return list(zip(times, accumulate(changes[time] for time in times), strict=True))
