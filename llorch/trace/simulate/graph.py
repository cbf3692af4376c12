"""Pieces of work and what each waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of work for one engine.

    Attributes:
        label: the operation it belongs to.
        layer: -1 outside the layers.
        work_s: seconds that one engine computes.
        n_bytes: what memory must deliver or take before it can end.
        after: indices of nodes that must have ended before; all lower than its own.
        part: which heads, or which token, where it is not the whole operation.
        needs_engine: False for a mere delay, such as a barrier, which any number of may pass at once.
    """

    label: str
    layer: int
    work_s: float
    n_bytes: float = 0.0
    after: tuple[int, ...] = ()
    part: str = ""
    needs_engine: bool = True


@dataclass(frozen=True, slots=True)
class Machine:
    """What nodes are scheduled on.

    Attributes:
        n_engines: each computes one node at a time.
        bytes_per_s: of the one memory channel, which all transfers under way share in equal parts.
        handover_s: from the end of a node until another engine can begin one that needs its result.
    """

    n_engines: int
    bytes_per_s: float
    handover_s: float = 0.0


def longest_rests(nodes: Sequence[Node], bytes_per_s: float) -> list[float]:
    """For every node the least seconds from its begin to the end of all that waits for it."""
    rests = [0.0] * len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        rests[i] += least_seconds(node, bytes_per_s)
        for earlier in node.after:
            rests[earlier] = max(rests[earlier], rests[i])
    return rests


def critical_path(nodes: Sequence[Node], bytes_per_s: float) -> list[int]:
    """The chain of dependent nodes that lasts longest, first to last: no number of engines is faster."""
    rests = longest_rests(nodes, bytes_per_s)
    followers: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for earlier in node.after:
            followers[earlier].append(i)
    path: list[int] = []
    candidates = [i for i, node in enumerate(nodes) if not node.after]
    while candidates:
        path.append(max(candidates, key=lambda i: (rests[i], -i)))
        candidates = followers[path[-1]]
    return path


def least_seconds(node: Node, bytes_per_s: float) -> float:
    """How long a node lasts when nothing else uses the memory."""
    return max(node.work_s, node.n_bytes / bytes_per_s)
