"""List scheduling: whenever an engine is free, it begins the ready node that most other work waits for."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from llorch.trace.simulate.graph import Machine, Node, longest_rests
from llorch.trace.simulate.memory_channel import MemoryChannel

NO_ENGINE = -1


@dataclass(frozen=True, slots=True)
class Placement:
    """When and where a node runs.

    Attributes:
        engine: `NO_ENGINE` for a delay.
        begun_s: its computation and its transfer begin.
        computed_s, delivered_s: when they end.
    """

    engine: int
    begun_s: float
    computed_s: float
    delivered_s: float

    @property
    def ended_s(self) -> float:
        """When the engine is free again; after `computed_s` it only waits for memory."""
        return max(self.computed_s, self.delivered_s)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A simulated run.

    Attributes:
        machine: what it ran on.
        placements: of every node.
        makespan_s: until the last node has ended.
        busy_s: seconds that each engine computed.
        memory_s: seconds that the memory channel was in use.
    """

    machine: Machine
    placements: tuple[Placement, ...]
    makespan_s: float
    busy_s: tuple[float, ...]
    memory_s: float

    @property
    def utilisation(self) -> float:
        """Share of the engines' time in which they computed."""
        return _share(sum(self.busy_s), self.makespan_s * self.machine.n_engines)

    @property
    def memory_utilisation(self) -> float:
        """Share of the time in which the memory channel was in use."""
        return _share(self.memory_s, self.makespan_s)


def schedule(nodes: Sequence[Node], machine: Machine, *, in_program_order: bool = False) -> Schedule:
    """Schedule nodes; the same input gives the same schedule.

    Args:
        nodes: each after those that it waits for.
        machine: what they run on.
        in_program_order: whether ready nodes begin in the order of `nodes` instead.

    Raises:
        ValueError: a node waits for itself or a later one, or there is no engine.
    """
    return _Run(nodes, machine, in_program_order).finish()


class _Run:
    """A simulation under way, event by event."""

    def __init__(self, nodes: Sequence[Node], machine: Machine, in_program_order: bool) -> None:
        if machine.n_engines < 1:
            raise ValueError(f"n_engines: expected at least 1, got {machine.n_engines}")
        self._nodes = nodes
        self._machine = machine
        self._now = 0.0
        rests = longest_rests(nodes, machine.bytes_per_s)
        self._rank = [0.0] * len(nodes) if in_program_order else [-rest for rest in rests]
        self._followers: list[list[int]] = [[] for _ in nodes]
        self._n_missing = [0] * len(nodes)
        self._ready: list[tuple[float, int]] = []
        self._free = list(range(machine.n_engines))
        self._events: list[tuple[float, int, bool]] = []  # time, node, whether it begins (or has computed)
        self._channel = MemoryChannel(machine.bytes_per_s)
        self._n_pending = [2] * len(nodes)  # its computation and its transfer
        self._engine = [NO_ENGINE] * len(nodes)
        self._begun_s, self._computed_s, self._delivered_s, self._ended_s = (
            [0.0] * len(nodes) for _ in range(4)
        )
        for i, node in enumerate(nodes):
            earlier = set(node.after)
            if any(not 0 <= j < i for j in earlier):
                raise ValueError(f"node {i} waits for {sorted(earlier)}: expected nodes before it")
            self._n_missing[i] = len(earlier)
            for j in earlier:
                self._followers[j].append(i)
        for i in range(len(nodes)):
            if self._n_missing[i] == 0:
                self._make_ready(i)

    def finish(self) -> Schedule:
        self._assign()
        while self._events or self._channel.is_busy:
            next_s = self._events[0][0] if self._events else float("inf")
            delivered_s = self._channel.next_end_s(self._now)
            if delivered_s <= next_s:
                self._now = delivered_s
                i = self._channel.pop(delivered_s)
                self._delivered_s[i] = delivered_s
                self._end_piece(i)
            else:
                self._channel.advance(next_s)
                self._now = next_s
                _, i, begins = heapq.heappop(self._events)
                if begins:
                    self._begin(i)
                else:
                    self._end_piece(i)
            self._assign()
        return self._result()

    def _make_ready(self, i: int) -> None:
        if self._nodes[i].needs_engine:
            heapq.heappush(self._ready, (self._rank[i], i))
        else:
            heapq.heappush(self._events, (self._now, i, True))

    def _assign(self) -> None:
        """Give ready nodes to free engines."""
        while self._ready and self._free:
            _, i = heapq.heappop(self._ready)
            engines = {self._engine[j] for j in self._nodes[i].after}
            candidates = [e for e in self._free if e in engines] + self._free[:1]
            begin_s, engine = min((self._earliest(i, e), e) for e in candidates)
            self._free.remove(engine)
            self._engine[i] = engine
            heapq.heappush(self._events, (begin_s, i, True))

    def _earliest(self, i: int, engine: int) -> float:
        """When `engine`, which is free, can begin node `i`."""
        earliest = self._now
        for j in self._nodes[i].after:
            if self._engine[j] not in (engine, NO_ENGINE):
                earliest = max(earliest, self._ended_s[j] + self._machine.handover_s)
        return earliest

    def _begin(self, i: int) -> None:
        node = self._nodes[i]
        self._begun_s[i] = self._now
        self._computed_s[i] = self._now + node.work_s
        heapq.heappush(self._events, (self._computed_s[i], i, False))
        if node.n_bytes > 0:
            self._channel.begin(i, node.n_bytes, self._now)
        else:
            self._delivered_s[i] = self._now
            self._n_pending[i] -= 1

    def _end_piece(self, i: int) -> None:
        """A node has computed, or its bytes have been moved; when both, it has ended."""
        self._n_pending[i] -= 1
        if self._n_pending[i]:
            return
        self._ended_s[i] = self._now
        if self._engine[i] != NO_ENGINE:
            bisect.insort(self._free, self._engine[i])
        for j in self._followers[i]:
            self._n_missing[j] -= 1
            if self._n_missing[j] == 0:
                self._make_ready(j)

    def _result(self) -> Schedule:
        busy_s = [0.0] * self._machine.n_engines
        for node, engine in zip(self._nodes, self._engine, strict=True):
            if engine != NO_ENGINE:
                busy_s[engine] += node.work_s
        placements = map(Placement, self._engine, self._begun_s, self._computed_s, self._delivered_s)
        return Schedule(
            self._machine,
            tuple(placements),
            max(self._ended_s, default=0.0),
            tuple(busy_s),
            self._channel.busy_s,
        )


def _share(part: float, whole: float) -> float:
    return min(part / whole, 1.0) if whole > 0 else 0.0
