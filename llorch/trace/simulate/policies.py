"""Ways to share a step out among engines, each as the graph that it makes of the step's operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from llorch.trace.simulate.dependencies import CACHE, Flow, flows
from llorch.trace.simulate.graph import Node
from llorch.trace.simulate.measured_step import MeasuredOperation

BARRIER, START = "barrier", "start"
"""Labels of delays: threads meet; threads begin a step."""

PIECES_PER_ENGINE = 16
"""Most pieces of an operation that are told apart; the rest of the balance is too fine to matter."""


def operation_graph(
    operations: Sequence[MeasuredOperation], *, n_groups: int = 1, n_in_flight: int = 1, unit: str = "token"
) -> list[Node]:
    """Operations that wait for nothing but what they read.

    Args:
        operations: of a step, in order.
        n_groups: groups of heads; what has heads becomes so many nodes.
        n_in_flight: consecutive steps of one sequence that are computed at once. Each reads what those before it have
            left in the cache, and all weights anew.
        unit: what such a step computes, for people.
    """
    found = flows([operation.label for operation in operations])
    nodes: list[Node] = []
    cached = defaultdict[tuple[int, int], list[int]](
        list
    )  # by layer and group: who wrote it for the steps before
    for turn in range(n_in_flight):
        stored: dict[tuple[int, int], int] = {}
        writers: dict[str, tuple[int, ...]] = {}
        for operation, flow in zip(operations, found, strict=True):
            n = n_groups if flow.has_heads else 1
            first = len(nodes)
            for group in range(n):
                after = _writers_of(flow, writers, group if n > 1 else None)
                if CACHE in flow.reads:
                    after += cached[operation.layer, group]
                part = [f"heads {group + 1}/{n}"] if n > 1 else []
                part += [f"{unit} {turn + 1}"] if n_in_flight > 1 else []
                nodes.append(
                    Node(
                        operation.label,
                        operation.layer,
                        operation.work_s / n,
                        operation.n_bytes / n,
                        tuple(sorted(set(after))),
                        ", ".join(part),
                    )
                )
            written = tuple(range(first, len(nodes)))
            writers.update(dict.fromkeys(flow.writes, written))
            if CACHE in flow.writes:
                stored.update({(operation.layer, group): i for group, i in enumerate(written)})
        for place, i in stored.items():
            cached[place].append(i)
    return nodes


def _writers_of(flow: Flow, writers: dict[str, tuple[int, ...]], group: int | None) -> list[int]:
    """The nodes that wrote what a node reads: all of it, or its group's."""
    found: list[int] = []
    for value in flow.reads:
        nodes = writers.get(value, ())
        found += nodes if group is None or len(nodes) == 1 else nodes[group : group + 1]
    return found


def shared_graph(
    operations: Sequence[MeasuredOperation],
    n_engines: int,
    *,
    barrier_s: float,
    start_s: float,
    meets_always: bool = False,
) -> list[Node]:
    """What llorch does: all engines share every operation out, and meet before the next one that needs its result.

    Args:
        operations: of a step, in order.
        n_engines: engines.
        barrier_s: from the last engine's end to the next operation's begin.
        start_s: until all engines have begun the step.
        meets_always: whether they meet after every operation.
    """
    found = flows([operation.label for operation in operations])
    nodes = [Node(START, -1, start_s, needs_engine=False)]
    met, pieces = 0, list[int]()
    for i, operation in enumerate(operations):
        n = min(operation.n_pieces, PIECES_PER_ENGINE * n_engines) if n_engines > 1 else 1
        pieces += range(len(nodes), len(nodes) + n)
        nodes += [
            Node(operation.label, operation.layer, operation.work_s / n, operation.n_bytes / n, (met,))
        ] * n
        is_last = i + 1 == len(operations)
        if is_last or meets_always or set(found[i + 1].reads) & {*found[i].writes}:
            met, waited = len(nodes), tuple(pieces)
            nodes.append(
                Node(BARRIER, operation.layer, 0.0 if is_last else barrier_s, 0.0, waited, "", False)
            )
            pieces = []
    return nodes
