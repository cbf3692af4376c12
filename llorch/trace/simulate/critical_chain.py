"""What the length of a schedule consists of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from llorch.trace.simulate.graph import Node
from llorch.trace.simulate.schedule import NO_ENGINE, Schedule

MEMORY, HANDOVER = "memory", "hand-over"
"""Names for waits: of a computed node for its bytes, and of an engine for another's result."""


def critical_chain(nodes: Sequence[Node], schedule: Schedule) -> list[int]:
    """The nodes that determine when a schedule ends, first to last.

    Backwards from the node that ends last: each is preceded by what kept it from beginning earlier, the last of what it
    waits for or the node before it on its engine.
    """
    placed = schedule.placements
    if not placed:
        return []
    before = _before_on_engine(schedule)
    i = max(range(len(placed)), key=lambda i: (placed[i].ended_s, -i))
    chain = [i]
    while True:
        candidates = [*nodes[i].after, *([before[i]] if i in before else [])]
        if not candidates:
            return chain[::-1]
        i = max(candidates, key=lambda j: (placed[j].ended_s, j))
        chain.append(i)


def chain_seconds(nodes: Sequence[Node], schedule: Schedule) -> dict[str, float]:
    """How long operations and waits last on the critical chain, longest first; the sum is the makespan."""
    seconds: defaultdict[str, float] = defaultdict(float)
    ended_s = 0.0
    for i in critical_chain(nodes, schedule):
        placement = schedule.placements[i]
        seconds[HANDOVER] += placement.begun_s - ended_s
        seconds[nodes[i].label] += placement.computed_s - placement.begun_s
        seconds[MEMORY] += placement.ended_s - placement.computed_s
        ended_s = placement.ended_s
    return dict(sorted(((k, s) for k, s in seconds.items() if s > 0), key=lambda item: (-item[1], item[0])))


def _before_on_engine(schedule: Schedule) -> dict[int, int]:
    """For every node the one that its engine ran before it."""
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    order = sorted(range(len(schedule.placements)), key=lambda i: (schedule.placements[i].begun_s, i))
    for i in order:
        engine = schedule.placements[i].engine
        if engine == NO_ENGINE:
            continue
        if engine in last:
            before[i] = last[engine]
        last[engine] = i
    return before
