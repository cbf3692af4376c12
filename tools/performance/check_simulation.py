#!/usr/bin/env python3
"""Compare the simulation with real replicas of one thread on this machine, and say how far they are apart.

    python -m tools.performance.check_simulation -m demo -m smollm2 -o check.json

In each of several rounds, it measures step times and what HTTP takes, and lets the same jobs arrive at 1 to 4 real
`llorch serve` processes, pinned to cores: a burst, and a stream of arrivals. Medians of all rounds count, and the
spread of the real figures is shown: machines are not equally fast at all times. Then the jobs arrive at simulated
replicas. Nothing else should run on the machine meanwhile: a round takes three minutes with the two models above, and
`--more` adds rounds to a file later. Exit code 1: something is further apart than `--within`, and outside the spread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llorch.errors import LlorchError
from tools.conformance.served import ServerError
from tools.performance.cluster.check_report import COMPARED, far_apart, markdown
from tools.performance.cluster.check_rounds import (
    LOADS,
    N_WARM_UP,
    ROUTER,
    SETTINGS,
    SHAPE,
    WARM_UP_SEED,
    Plan,
    costs_of,
    measure_round,
)
from tools.performance.cluster.replica import HTTPCosts
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.simulation import Fleet, Simulation
from tools.performance.cluster.step_times import StepTimes, StepTimesError
from tools.performance.cluster.workload import Job, burst
from tools.performance.load_client import LoadError
from tools.performance.measure_steps import measure


def simulate(
    times: StepTimes, http: HTTPCosts, n_replicas: int, shared: float, jobs: Sequence[Job]
) -> dict[str, float]:
    """The figures of a simulated run on one machine."""
    fleet = Fleet(n_replicas, times.about["n_cores"], n_machines=1, shared=shared)
    simulation = Simulation(times, SETTINGS, http, fleet, ROUTERS[ROUTER](SETTINGS.parallel))
    simulation.warm_up(burst(SHAPE, N_WARM_UP * n_replicas, WARM_UP_SEED))
    return simulation.run(jobs).figures()


def measure_model(model: str, plan: Plan, of_model: dict[str, Any], n_times: int) -> dict[str, Any]:
    """One more round of a model; steps are measured `n_times`, unless their times are given."""
    tables = []
    if not of_model["are_steps_given"]:
        tables.append(dataclasses.asdict(measure(model, 1, n_times)))
        say(f"{model}: step times are measured")
    rounds = [measure_round(model, plan, of_model["rounds"], say)]
    return {**of_model, "tables": of_model["tables"] + tables, "rounds": of_model["rounds"] + rounds}


def compare(of_model: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Simulate what was measured of a model in all rounds so far."""
    name, rounds = of_model["model"], of_model["rounds"]
    times = StepTimes.median([StepTimes.of(table, name) for table in of_model["tables"]])
    http, shared = costs_of(rounds, times)
    runs = []
    for n in plan.n_replicas:
        costs = http["apart" if n < times.about["n_cores"] else "among"]
        for load in LOADS:
            jobs = plan.jobs(load, n, rounds)
            real = [of["real"][f"{n} {load}"] for of in rounds]
            simulated = simulate(times, costs, n, shared, jobs)
            middle, low, high = (
                {key: pick(of[key] for of in real) for key in real[0]}
                for pick in (statistics.median, min, max)
            )
            run = {"replicas": n, "load": load, "real": middle, "low": low, "high": high}
            runs.append({**run, "simulated": simulated})
            shown = ", ".join(f"{key} {simulated[key] / middle[key]:.2f}" for key in COMPARED)
            say(f"{name}: {n} replicas, {load}: simulated / real: {shown}")
    return {
        **of_model,
        "steps": dataclasses.asdict(times),
        "http": {where: dataclasses.asdict(costs) for where, costs in http.items()},
        "shared": shared,
        "runs": runs,
    }


def begin(args: argparse.Namespace) -> dict[str, Any]:
    """The document to which rounds are added.

    Raises:
        StepTimesError: it is not one of these models, or of another plan.
    """
    names = [Path(model).name for model in args.model]
    plan = dataclasses.asdict(Plan(tuple(args.replicas), args.jobs, args.seconds, args.seed))
    if args.more:
        document: dict[str, Any] = json.loads(args.out.read_text("utf-8"))
        found = [of_model["model"] for of_model in document["models"]]
        if found != names or document["plan"] != json.loads(json.dumps(plan)):
            raise StepTimesError(f"{args.out}: expected rounds of {', '.join(names)} with {plan}")
        return {**document, "within": args.within}
    tables = [dataclasses.asdict(StepTimes.load(path)) for path in args.steps]
    models = [
        {"model": name, "are_steps_given": bool(tables), "tables": tables, "rounds": []} for name in names
    ]
    return {"within": args.within, "plan": plan, "models": models}


def say(line: str) -> None:
    """Report progress."""
    print(line, file=sys.stderr, flush=True)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", action="append", help="as of `llorch serve` (default: demo)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="JSON; a .md beside it")
    parser.add_argument(
        "--steps", type=Path, nargs="+", default=[], metavar="FILE", help="of measure_steps; else measured"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of measurements (3)")
    parser.add_argument("--more", action="store_true", help="add the rounds to what the file has")
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
    if args.rounds < (0 if args.more else 1):
        parser.error("--rounds: expected at least 1")
    if args.more and args.steps:
        parser.error("--steps: a file that is added to has its tables already")
    if args.out.suffix != ".json":
        parser.error(f"-o: expected a name that ends in .json, got {args.out.name}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = arguments(argv)
    try:
        document = begin(args)
        plan = Plan(**{**document["plan"], "n_replicas": tuple(document["plan"]["n_replicas"])})
        for _ in range(args.rounds):
            document["models"] = [
                measure_model(model, plan, of_model, args.times)
                for model, of_model in zip(args.model, document["models"], strict=True)
            ]
        document["models"] = [compare(of_model, plan) for of_model in document["models"]]
    except (LlorchError, StepTimesError, ServerError, LoadError, KeyError, ValueError, OSError) as error:
        print(f"check_simulation: {error}", file=sys.stderr)
        return 2
    args.out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    text = markdown(document)
    args.out.with_suffix(".md").write_text(text + "\n", "utf-8")
    print(text)
    far = far_apart(document)
    print("\n".join(far) or f"everything is within {args.within:.0%}, or within the spread of the real runs")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
