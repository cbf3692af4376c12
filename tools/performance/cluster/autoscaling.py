"""How many replicas there are: enough that each has so many requests, as Ray Serve's autoscaler counts them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tools.performance.cluster.simulation import Simulation


@dataclass(frozen=True, slots=True)
class Scaling:
    """When replicas are added and taken away.

    Attributes:
        target: unfinished requests that a replica should have.
        least: fewest replicas.
        most: most of them.
        every_s: time between two looks.
        down_after_s: fewer replicas must have been enough for so long before some are taken away.
    """

    target: float
    least: int
    most: int
    every_s: float = 10.0
    down_after_s: float = 120.0


class Autoscaler:
    """Looks at a simulation every so often, as long as it is told to."""

    def __init__(self, simulation: Simulation, scaling: Scaling, start_s: float, until_s: float) -> None:
        """Begin to look, until `until_s`; a replica that is added takes requests `start_s` later."""
        self._simulation = simulation
        self._scaling = scaling
        self._start_s = start_s
        self._until_s = until_s
        self._n_starting = 0
        self._enough_since_s: float | None = None
        simulation.at(simulation.now_s + scaling.every_s, self._look)

    def _look(self) -> None:
        simulation, scaling = self._simulation, self._scaling
        n_open = simulation.n_open
        n_now = len(n_open) + self._n_starting
        wanted = min(max(math.ceil(sum(n_open.values()) / scaling.target), scaling.least), scaling.most)
        for _ in range(wanted - n_now):
            self._n_starting += 1
            simulation.at(simulation.now_s + self._start_s, self._begin)
        if wanted >= n_now:
            self._enough_since_s = None
        elif self._enough_since_s is None:
            self._enough_since_s = simulation.now_s
        elif simulation.now_s - self._enough_since_s >= scaling.down_after_s:
            for name in sorted(n_open, key=lambda name: (n_open[name], -name))[: n_now - wanted]:
                simulation.retire(name)
            self._enough_since_s = None
        if simulation.now_s + scaling.every_s <= self._until_s:
            simulation.at(simulation.now_s + scaling.every_s, self._look)

    def _begin(self) -> None:
        self._n_starting -= 1
        self._simulation.add_replica()
