"""How many replicas so many users need, by simulation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.simulation import Fleet, Simulation
from tools.performance.cluster.step_times import StepTimes
from tools.performance.cluster.workload import Mix, arrivals, burst

STEP = 1.15
"""By so much a fleet that does not suffice grows before it is tried again."""


class CapacityError(Exception):
    """No number of replicas can be told."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What users shall get.

    Attributes:
        first_p95_ms: longest time to the first token, in the 95th percentile.
        gap_p50_ms: longest time between tokens, in the median: 200 is about as fast as people read.
    """

    first_p95_ms: float = 8000
    gap_p50_ms: float = 200

    def is_kept(self, figures: dict[str, float]) -> bool:
        """Whether a run kept it, and refused nobody."""
        return (
            figures["first_p95_ms"] <= self.first_p95_ms
            and figures["gap_p50_ms"] <= self.gap_p50_ms
            and not figures["refused"]
        )


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated: measured costs, settings of each replica, how requests are routed, for how long."""

    times: StepTimes
    http: HTTPCosts
    settings: ReplicaSettings
    router: str = "prefix"
    seconds: float = 120
    seed: int = 0

    def run(
        self, mix: Mix, n_replicas: int, prepare: Callable[[Simulation], None] = lambda _: None
    ) -> dict[str, float]:
        """The figures of a fleet on machines as the measured one; `prepare` may plan failures and scaling."""
        fleet = Fleet(n_replicas, self.times.about["n_cores"])
        router = ROUTERS[self.router](self.settings.parallel)
        simulation = Simulation(self.times, self.settings, self.http, fleet, router)
        prepare(simulation)
        return simulation.run(arrivals(mix, self.seconds, self.seed)).figures()

    def most_tokens_per_s(self, mix: Mix) -> float:
        """What one replica generates while it has all it can do."""
        jobs = list(burst(mix, 8 * self.settings.parallel, self.seed))
        settings = dataclasses.replace(self.settings, max_waiting=len(jobs))
        router = ROUTERS["round-robin"](self.settings.parallel)
        simulation = Simulation(self.times, settings, self.http, Fleet(1), router)
        return simulation.run(jobs).figures()["tokens_per_s"]

    def fewest(self, mix: Mix, promise: Promise) -> tuple[int, dict[str, float]]:
        """The smallest fleet tried that keeps `promise`, and its figures; the first has just cores for the tokens.

        Raises:
            CapacityError: nobody asked anything meanwhile, or a replica for each user would not suffice.
        """
        n_answer = mix.n_answer * math.exp(mix.sigma**2 / 2)  # mean of log-normal lengths
        n = max(1, math.floor(mix.jobs_per_s * n_answer / self.most_tokens_per_s(mix)))
        while not promise.is_kept(figures := self.run(mix, n)):
            if not figures["finished"]:
                raise CapacityError(f"{mix.n_users} users finish nothing within {self.seconds:g} s")
            if n >= mix.n_users:
                raise CapacityError(f"{n} replicas for as many users are not fast enough: {figures}")
            n = max(n + 1, math.ceil(n * STEP))
        return n, figures
