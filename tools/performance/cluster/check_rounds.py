"""A comparison's real side, measured in rounds: step times, what HTTP takes, and real replicas under each load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tools.performance.cluster import calibration, real_run
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.step_times import StepTimes
from tools.performance.cluster.workload import Job, Mix, arrivals, burst
from tools.performance.load_client import LoadError

SETTINGS = ReplicaSettings(parallel=4, ctx_size=512)
SHAPE = Mix(
    n_users=1, period_s=1, n_groups=4, n_system=96, n_message=48, n_answer=64, sigma=0.4, n_turns=1, n_ctx=400
)
BUSY = 0.6
"""Share of what the replicas can do that the stream of arrivals asks for."""
ROUTER = "least-loaded"
N_WARM_UP, WARM_UP_SEED = 4, -1
"""Requests that every replica, real or simulated, has answered before."""
LOADS = ("burst", "stream")


@dataclass(frozen=True, slots=True)
class Plan:
    """Which jobs arrive; the same in every round.

    Attributes:
        n_replicas: numbers of replicas that are compared.
        n_jobs: of a burst, for each replica.
        seconds: of a stream.
        seed: other prompts with another one.
    """

    n_replicas: tuple[int, ...]
    n_jobs: int
    seconds: float
    seed: int

    def jobs(self, load: str, n: int, rounds: Sequence[dict[str, Any]]) -> list[Job]:
        """The jobs of a load for `n` replicas; the first round's burst says how many a stream has."""
        if load == "burst":
            return self.burst(n)
        return self.stream(n, rounds[0]["real"][f"{n} burst"]["tokens_per_s"])

    def burst(self, n: int) -> list[Job]:
        """The jobs that arrive at `n` replicas at once; others for each number, so that no cache knows them."""
        return list(burst(SHAPE, self.n_jobs * n, self.seed + 10 * n))

    def stream(self, n: int, most_per_s: float) -> list[Job]:
        """The jobs that arrive over time, where `n` replicas generate at most so many tokens a second.

        Raises:
            LoadError: none arrives.
        """
        jobs = self.burst(n)
        n_answer = sum(len(job.answer_ids) for job in jobs) / len(jobs)
        period_s = n_answer / (BUSY * most_per_s) * 100
        mix = dataclasses.replace(SHAPE, n_users=100, period_s=period_s)
        found = list(arrivals(mix, self.seconds, self.seed + 10 * n + 1))
        if not found:
            raise LoadError(f"no request arrives within {self.seconds:g} s: choose more --seconds")
        return found


def measure_round(
    model: str, plan: Plan, before: Sequence[dict[str, Any]], say: Callable[[str], None]
) -> dict[str, Any]:
    """Let the jobs arrive at real replicas, each pinned to a core.

    Args:
        model: as of `llorch serve`.
        plan: the jobs.
        before: earlier rounds; the first one's bursts say how many jobs a stream has.
        say: is told how far it is.
    """
    cores = sorted(os.sched_getaffinity(0))
    real: dict[str, dict[str, float]] = {}
    with real_run.replicas(model, max(plan.n_replicas), cores, SETTINGS) as servers:
        real_run.warm_up(servers, list(burst(SHAPE, N_WARM_UP, WARM_UP_SEED)))
        with real_run.client_beside(1, cores):
            apart = calibration.http_costs(servers[:1])
            shared = 1.0
            if len(servers) > len(cores):
                shared = calibration.shared_core(servers[0], servers[len(cores)])
        with real_run.client_beside(len(cores), cores):
            among = calibration.http_costs(servers[: len(cores)])
        say(f"{model}: HTTP takes {1e6 * (apart.wake_s + apart.token_s):.0f} us a step of one answer")
        for n in plan.n_replicas:
            for load in LOADS:
                jobs = plan.jobs(load, n, [*before, {"real": real}])
                with real_run.client_beside(n, cores):
                    router = ROUTERS[ROUTER](SETTINGS.parallel)
                    figures = real_run.run(servers[:n], router, jobs).figures()
                real[f"{n} {load}"] = figures
                say(f"{model}: {n} replicas, {load}: {figures['tokens_per_s']:.0f} tokens/s")
    http = {"apart": dataclasses.asdict(apart), "among": dataclasses.asdict(among)}
    return {"http": http, "shared": shared, "real": real}


def costs_of(rounds: Sequence[dict[str, Any]], times: StepTimes) -> tuple[dict[str, HTTPCosts], float]:
    """The medians of all rounds: what HTTP takes, and how many times as long steps take on a shared core.

    HTTP is measured with a client on a core of its own (`apart`), and with one that computes where all cores have
    a replica (`among`): caches are colder then.
    """
    http = {}
    for where, table in (("apart", times.alone), ("among", times.beside)):
        measured = calibration.median_costs([HTTPCosts(**of["http"][where]) for of in rounds])
        http[where] = calibration.beyond(measured, times, table)
    return http, calibration.median([of["shared"] for of in rounds])
