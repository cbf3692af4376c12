#!/usr/bin/env python3
"""Compare the simulation with real replicas of one thread on this machine, and say how far they are apart.

    python -m tools.performance.check_simulation -m demo -m smollm2 -o check.json

Measures step times and what HTTP takes, then lets the same jobs arrive at 1 to 4 real `llorch serve` processes, pinned
to cores, and at simulated ones: a burst, and a stream of arrivals. Nothing else should run on the machine meanwhile:
with the two models above it takes about five minutes. Exit code 1: something is further apart than `--within`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.errors import LlorchError
from tools.conformance.served import ServerError
from tools.performance.cluster import real_run
from tools.performance.cluster.check_report import COMPARED, far_apart, markdown
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.simulation import Fleet, Simulation
from tools.performance.cluster.step_times import StepTimes, StepTimesError
from tools.performance.cluster.workload import Job, Mix, arrivals, burst
from tools.performance.load_client import LoadError
from tools.performance.measure_steps import measure

SETTINGS = ReplicaSettings(parallel=4, ctx_size=512)
SHAPE = Mix(
    n_users=1, period_s=1, n_groups=4, n_system=96, n_message=48, n_answer=64, sigma=0.4, n_turns=1, n_ctx=400
)
BUSY = 0.6
"""Share of what the replicas can do that the stream of arrivals asks for."""
ROUTER = "least-loaded"
N_WARM_UP, WARM_UP_SEED = 4, -1
"""Requests that every replica, real or simulated, has answered before."""


def simulate(
    times: StepTimes, http: HTTPCosts, n_replicas: int, n_cores: int, jobs: Sequence[Job]
) -> dict[str, float]:
    """The figures of a simulated run on one machine."""
    fleet = Fleet(n_replicas, n_cores, n_machines=1)
    simulation = Simulation(times, SETTINGS, http, fleet, ROUTERS[ROUTER](SETTINGS.parallel))
    simulation.warm_up(burst(SHAPE, N_WARM_UP * n_replicas, WARM_UP_SEED))
    tally = simulation.run(jobs)
    tally.busy_s -= http.client_s * tally.n_tokens
    return tally.figures()


def calibrate(server: real_run.Server, times: StepTimes, seed: int) -> HTTPCosts:
    """What the HTTP side of a replica takes."""
    few, many = (
        list(burst(dataclasses.replace(SHAPE, n_answer=n, sigma=0.0), 8, seed + i))
        for i, n in enumerate((8, 96))
    )
    engine = [simulate_cpu(times, jobs) for jobs in (few, many)]
    return real_run.http_costs(server, few, many, engine[1] - engine[0])


def simulate_cpu(times: StepTimes, jobs: Sequence[Job]) -> float:
    """Processor time that the steps of `jobs` take on a replica of its own."""
    simulation = Simulation(times, SETTINGS, HTTPCosts(), Fleet(1), ROUTERS[ROUTER](SETTINGS.parallel))
    simulation.warm_up(burst(SHAPE, N_WARM_UP, WARM_UP_SEED))
    return simulation.run(jobs).busy_s


def loads(
    times: StepTimes, http: HTTPCosts, n_replicas: int, n_cores: int, args: argparse.Namespace
) -> dict[str, list[Job]]:
    """The jobs of each load; other prompts for every number of replicas, so that no cache knows them."""
    seed = args.seed + 10 * n_replicas
    all_at_once = list(burst(SHAPE, args.jobs * n_replicas, seed))
    most = simulate(times, http, n_replicas, n_cores, all_at_once)
    n_answer = sum(len(job.answer_ids) for job in all_at_once) / len(all_at_once)
    period_s = n_answer / (BUSY * most["tokens_per_s"]) * 100
    mix = dataclasses.replace(SHAPE, n_users=100, period_s=period_s)
    stream = list(arrivals(mix, args.seconds, seed + 1))
    if not stream:
        raise LoadError(f"no request arrives within {args.seconds:g} s: choose more --seconds")
    return {"burst": all_at_once, "stream": stream}


def compare(model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure, run and simulate one model."""
    cores = sorted(os.sched_getaffinity(0))
    times = StepTimes.load(args.steps) if args.steps else measure(model, 1, args.times)
    say(f"{model}: step times are measured")
    runs = []
    with real_run.replicas(model, max(args.replicas), cores, SETTINGS) as servers:
        real_run.warm_up(servers, list(burst(SHAPE, N_WARM_UP, WARM_UP_SEED)))
        with real_run.client_beside(1, cores):
            http = calibrate(servers[0], times, args.seed)
        say(
            f"{model}: HTTP takes {1e6 * http.token_s:.0f} us a token, {1e3 * http.request_s:.2f} ms a request"
        )
        for n in args.replicas:
            with real_run.client_beside(n, cores) as is_apart:
                costs = dataclasses.replace(http, client_s=0.0) if is_apart else http
                for load, jobs in loads(times, costs, n, len(cores), args).items():
                    router = ROUTERS[ROUTER](SETTINGS.parallel)
                    real = real_run.run(servers[:n], router, jobs).figures()
                    simulated = simulate(times, costs, n, len(cores), jobs)
                    runs.append({"replicas": n, "load": load, "real": real, "simulated": simulated})
                    shown = ", ".join(f"{key} {simulated[key] / real[key]:.2f}" for key in COMPARED)
                    say(f"{model}: {n} replicas, {load}: simulated / real: {shown}")
    return {
        "model": Path(model).name,
        "steps": dataclasses.asdict(times),
        "http": dataclasses.asdict(http),
        "runs": runs,
    }


def say(line: str) -> None:
    """Report progress."""
    print(line, file=sys.stderr, flush=True)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append", help="as of `llorch serve` (default: demo)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="JSON; a .md beside it")
    parser.add_argument("--steps", type=Path, metavar="FILE", help="of measure_steps; else they are measured")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 3, 4], metavar="N")
    parser.add_argument("--jobs", type=int, default=12, metavar="N", help="of a burst, for each replica (12)")
    parser.add_argument("--seconds", type=float, default=12, metavar="S", help="of a stream of arrivals (12)")
    parser.add_argument("--times", type=int, default=3, metavar="N", help="each step is measured (3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--within", type=float, default=0.15, metavar="SHARE", help="(default: 0.15)")
    args = parser.parse_args(words)
    args.model = args.model or ["demo"]
    if args.steps and len(args.model) > 1:
        parser.error("--steps: step times are of one model, so give one -m")
    if min(args.replicas) < 1:
        parser.error("--replicas: expected at least 1")
    if args.out.suffix != ".json":
        parser.error(f"-o: expected a name that ends in .json, got {args.out.name}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = arguments(argv)
    try:
        document = {"within": args.within, "models": [compare(model, args) for model in args.model]}
    except (LlorchError, StepTimesError, ServerError, LoadError, OSError) as error:
        print(f"check_simulation: {error}", file=sys.stderr)
        return 2
    args.out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    text = markdown(document)
    args.out.with_suffix(".md").write_text(text + "\n", "utf-8")
    print(text)
    far = far_apart(document)
    print("\n".join(far) or f"everything is within {args.within:.0%}")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
