#!/usr/bin/env python3
"""Simulate replicas under load: the engine's own scheduling, with step times that `measure_steps` has measured.

    python -m tools.performance.simulate_cluster --steps steps.json --users 1000 --replicas 16 --router prefix

Prints one JSON object: tokens/s, time to the first token, time between tokens, share of prompts found in caches,
requests refused and sent again. `--autoscale` adds and takes away replicas; `--fail-at` kills one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from tools.performance.cluster.autoscaling import Autoscaler, Scaling
from tools.performance.cluster.capacity import Setup
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings
from tools.performance.cluster.routing import ROUTERS
from tools.performance.cluster.simulation import Fleet, Simulation
from tools.performance.cluster.step_times import StepTimes, StepTimesError
from tools.performance.cluster.workload import Mix


def simulate(args: argparse.Namespace) -> dict[str, float]:
    """The figures of the run that the command line asks for."""
    mix = Mix(
        n_users=args.users,
        period_s=args.period,
        n_groups=args.groups,
        n_system=args.system,
        n_message=args.message,
        n_answer=args.answer,
        n_turns=args.turns,
        n_ctx=args.ctx_size,
    )
    settings = ReplicaSettings(args.parallel, args.ctx_size, max_waiting=args.max_waiting)
    http = HTTPCosts(args.request_ms / 1e3, args.token_us / 1e6, wake_s=args.wake_us / 1e6)
    setup = Setup(StepTimes.load(args.steps), http, settings, args.router, args.seconds, args.seed)
    start_s = Fleet(1).start_s

    def prepare(simulation: Simulation) -> None:
        for i, at_s in enumerate(args.fail_at):
            simulation.at(at_s, lambda name=i: simulation.fail(name))  # type: ignore[misc]
        if args.autoscale:
            scaling = Scaling(args.target, args.replicas, args.autoscale)
            Autoscaler(simulation, scaling, start_s, args.seconds)

    return {"replicas": args.replicas, **setup.run(mix, args.replicas, prepare)}


def arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    mix = {field.name: field.default for field in dataclasses.fields(Mix)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=Path, required=True, metavar="FILE", help="of measure_steps")
    parser.add_argument("--users", type=int, default=10, metavar="N")
    parser.add_argument(
        "--period", type=float, default=60, metavar="S", help="between a user's messages (60)"
    )
    parser.add_argument("--seconds", type=float, default=120, metavar="S", help="of arrivals (120)")
    parser.add_argument("--replicas", type=int, default=1, metavar="N")
    parser.add_argument("--router", choices=sorted(ROUTERS), default="prefix")
    parser.add_argument(
        "-np", "--parallel", type=int, default=8, metavar="N", help="sequences of a replica (8)"
    )
    parser.add_argument("-c", "--ctx-size", type=int, default=mix["n_ctx"], metavar="N")
    parser.add_argument("--max-waiting", type=int, default=64, metavar="N")
    for name, words_ in (
        ("groups", "system prompts"),
        ("system", "tokens of one"),
        ("message", "tokens of a message"),
        ("answer", "tokens of an answer"),
        ("turns", "messages of a conversation"),
    ):
        default = mix[f"n_{name}"]
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{words_} ({default})")
    parser.add_argument(
        "--request-ms", type=float, default=1.0, metavar="MS", help="HTTP takes for a request (1)"
    )
    parser.add_argument("--wake-us", type=float, default=50, metavar="US", help="HTTP takes for a step (50)")
    parser.add_argument(
        "--token-us", type=float, default=30, metavar="US", help="HTTP takes for a token in it (30)"
    )
    parser.add_argument("--fail-at", type=float, nargs="*", default=[], metavar="S", help="a replica dies")
    parser.add_argument("--autoscale", type=int, default=0, metavar="MOST", help="up to so many replicas")
    parser.add_argument("--target", type=float, default=6, metavar="N", help="requests of a replica (6)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(words)
    for name in ("users", "replicas", "parallel", "groups", "turns", "message", "answer"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}: expected at least 1")
    if args.system + 2 > args.ctx_size:
        parser.error(f"--system: expected less than the context of {args.ctx_size} tokens")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = arguments(argv)
    try:
        figures = simulate(args)
    except StepTimesError as error:
        print(f"simulate_cluster: {error}", file=sys.stderr)
        return 2
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
