"""Simulates a measured step on any number of engines, each way of sharing it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llorch.trace.simulate.critical_chain import chain_seconds
from llorch.trace.simulate.graph import Machine, Node, critical_path, least_seconds
from llorch.trace.simulate.handover import Handover
from llorch.trace.simulate.measured_step import MeasuredStep
from llorch.trace.simulate.policies import operation_graph, shared_graph
from llorch.trace.simulate.schedule import Schedule, schedule

NONE, OPERATIONS, HEADS, SHARED = "none", "operations", "heads", "shared"
"""One engine; independent operations at once; and heads, too; every operation shared out among all engines."""

MOST_IN_FLIGHT = 8
"""Tokens; each reads all weights, so a few of them use all that the memory gives."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A way to share a step out, on some engines.

    Attributes:
        policy: `NONE`, `OPERATIONS`, `HEADS`, `SHARED`, or ``"2 tokens"`` and so on.
        n_in_flight: tokens in flight, or steps of several rows each.
        nodes: the pieces.
        schedule: when and where they ran.
        speedup: of each of them, over one engine.
        shortest_s: the longest chain of pieces that wait for each other: no number of engines is faster.
        chain_s: what the makespan consists of, by operation, longest first.
    """

    policy: str
    n_in_flight: int
    nodes: tuple[Node, ...]
    schedule: Schedule
    speedup: float
    shortest_s: float
    chain_s: Mapping[str, float]

    @property
    def seconds_each(self) -> float:
        """The makespan by what is in flight."""
        return self.schedule.makespan_s / self.n_in_flight

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        run = self.schedule
        return {
            "engines": run.machine.n_engines,
            "policy": self.policy,
            "in_flight": self.n_in_flight,
            "makespan_s": run.makespan_s,
            "seconds_each": self.seconds_each,
            "speedup": self.speedup,
            "utilisation": run.utilisation,
            "engine_utilisation": [s / run.makespan_s if run.makespan_s else 0.0 for s in run.busy_s],
            "memory_utilisation": run.memory_utilisation,
            "shortest_s": self.shortest_s,
            "critical_path": dict(self.chain_s),
        }


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured of the machine.

    Attributes:
        bytes_per_s: of its memory, the most that was seen.
        handovers: by number of threads, 1 among them.
    """

    bytes_per_s: float
    handovers: Mapping[int, Handover]

    def handover(self, n_engines: int) -> Handover:
        """That of so many threads, or of as many as were measured."""
        return self.handovers[max(n for n in self.handovers if n <= n_engines)]


def simulate(step: MeasuredStep, n_head_kv: int, counts: Sequence[int], costs: Costs) -> list[Outcome]:
    """Every policy on every number of engines.

    Args:
        step: what was measured.
        n_head_kv: groups of heads.
        counts: numbers of engines, each at least 1.
        costs: of the machine.
    """
    whole = operation_graph(step.operations)
    alone = schedule(whole, Machine(1, costs.bytes_per_s), in_program_order=True)
    outcomes = []
    for n_engines in counts:
        handover = costs.handover(n_engines)
        machine = Machine(n_engines, costs.bytes_per_s, handover.barrier_s)
        if n_engines == 1:
            outcomes.append(_outcome(NONE, 1, whole, alone, alone.makespan_s))
        else:
            heads = operation_graph(step.operations, n_groups=n_head_kv)
            for policy, nodes in ((OPERATIONS, whole), (HEADS, heads)):
                outcomes.append(_outcome(policy, 1, nodes, schedule(nodes, machine), alone.makespan_s))
        for n in sorted({2, min(n_engines, MOST_IN_FLIGHT)}) if n_engines > 1 else ():
            nodes = operation_graph(step.operations, n_groups=n_head_kv, n_in_flight=n, unit=step.unit)
            outcomes.append(
                _outcome(f"{n} {step.unit}s", n, nodes, schedule(nodes, machine), alone.makespan_s)
            )
        nodes, run = run_shared(step, n_engines, costs)
        outcomes.append(_outcome(SHARED, 1, nodes, run, alone.makespan_s))
    return outcomes


def run_shared(step: MeasuredStep, n_engines: int, costs: Costs) -> tuple[list[Node], Schedule]:
    """The step as llorch runs it on `n_engines` threads."""
    handover = costs.handover(n_engines)
    nodes = shared_graph(
        step.operations,
        n_engines,
        barrier_s=handover.barrier_s,
        start_s=handover.start_s,
        meets_always=step.is_observed,
    )
    return nodes, schedule(nodes, Machine(n_engines, costs.bytes_per_s), in_program_order=True)


def _outcome(policy: str, n_in_flight: int, nodes: Sequence[Node], run: Schedule, alone_s: float) -> Outcome:
    bytes_per_s = run.machine.bytes_per_s
    return Outcome(
        policy=policy,
        n_in_flight=n_in_flight,
        nodes=tuple(nodes),
        schedule=run,
        speedup=alone_s * n_in_flight / run.makespan_s if run.makespan_s else 1.0,
        shortest_s=sum(least_seconds(nodes[i], bytes_per_s) for i in critical_path(nodes, bytes_per_s)),
        chain_s=chain_seconds(nodes, run),
    )
