#!/usr/bin/env python3
"""Load a server with everything at once for as long as you like, and say whether anything grew, was lost or failed.

    python -m tools.performance.soak --minutes 30 -m demo --out soak

Clients of every API, short and long prompts, shared beginnings, cancellations, clients that leave, stall, half-close,
crowd, or send nonsense; meanwhile a golden request must have the same bits every time. `OUT.ndjson` is the time
series, `OUT.json` the summary, `OUT.log` what the server printed. Exit code 1: something is wrong, and it is named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tools.conformance.served import ServerError, llorch_command, serving
from tools.performance.server_loads import percentile
from tools.performance.soaking.bad_clients import BAD
from tools.performance.soaking.golden import Golden
from tools.performance.soaking.good_clients import GOOD, Client
from tools.performance.soaking.observer import Observer, Sample
from tools.performance.soaking.verdict import Tolerances, faults, slope_per_s
from tools.performance.soaking.wire import SoakError

N_PARALLEL, MAX_WAITING = 4, 8
SERVER_FLAGS = ("-c", "512", "--max-waiting", str(MAX_WAITING), "--send-timeout-s", "5")
IDLE_S = 60.0
"""By then, what clients that left have begun must have ended."""
MOST_FAILURES = 20
"""As many are told."""
UNWANTED = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b|numerical_error|internal_error")
"""What the server's log must not hold."""


@dataclass(slots=True)
class Load:
    """What the clients have seen.

    Attributes:
        outcomes: how often each client came to each end.
        failures: what must not have been.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def repeat(
        self, clients: tuple[Client, ...], port: int, seed: str, until_s: float, pause_s: float
    ) -> None:
        """One client after the other, chosen by chance, until the time is over."""
        chance = random.Random(seed)
        while time.monotonic() < until_s and len(self.failures) < MOST_FAILURES:
            client = chance.choice(clients)
            name = client.__name__
            try:
                self.outcomes[f"{name}: {await client(port, chance)}"] += 1
            except SoakError as error:
                self.failures.append(f"{name}: {error}")
            except Exception as error:
                self.failures.append(f"{name}: {type(error).__name__}: {error}")
            await asyncio.sleep(pause_s * chance.random())


async def run(
    port: int, observer: Observer, golden: Golden, load: Load, args: argparse.Namespace
) -> tuple[Sample, Sample]:
    """Run the load; the state before it, and when all clients are gone."""
    await golden.check_all(port)
    first = await asyncio.to_thread(observer.sample)
    observer.start()
    until_s = time.monotonic() + 60 * args.minutes
    groups = [
        *[(GOOD, "good", 0.2)] * args.good,
        *[(BAD, "bad", 0.5)] * args.bad,
        ((golden.check,), "golden", 2.0),
    ]
    await asyncio.gather(
        *(
            load.repeat(clients, port, f"{args.seed}/{name}{i}", until_s, pause_s)
            for i, (clients, name, pause_s) in enumerate(groups)
        )
    )
    await asyncio.to_thread(observer.stop)
    deadline_s = time.monotonic() + IDLE_S
    last = await asyncio.to_thread(observer.sample)
    while (last.kv_used or last.n_busy_slots) and time.monotonic() < deadline_s:
        await asyncio.sleep(0.5)
        last = await asyncio.to_thread(observer.sample)
    await golden.check_all(port)
    return first, last


def soak(args: argparse.Namespace) -> dict[str, Any]:
    """Start a server, load it, judge it; the summary."""
    load, golden = Load(), Golden()
    states: tuple[Sample, Sample] | None = None
    log_path = args.out.with_suffix(".log")
    command = llorch_command(args.model, N_PARALLEL, *SERVER_FLAGS, *args.server_args.split())
    with serving(command, log_path) as (url, process), args.out.with_suffix(".ndjson").open("w") as series:
        observer = Observer(int(url.rpartition(":")[2]), process.pid, series, args.every)
        try:
            states = asyncio.run(run(observer.port, observer, golden, load, args))
        except (SoakError, OSError) as error:
            load.failures.append(f"the run broke off: {error}")
        if process.poll() is not None:
            load.failures.append(f"the server ended with {process.returncode}")
    said = [line for line in log_path.read_text(errors="replace").splitlines() if UNWANTED.search(line)]
    found = load.failures + observer.faults + [f"the log says: {line[:200]}" for line in said[:MOST_FAILURES]]
    if states is not None:
        allowed = Tolerances(health_p99_s=args.health_p99_ms / 1000)
        found += faults(states[0], observer.samples, states[1], observer.probes_s, allowed)
    return {
        "minutes": args.minutes,
        "model": args.model,
        "faults": found,
        "outcomes": dict(sorted(load.outcomes.items())),
        "golden": golden.n_checked,
        "health_p50_ms": 1000 * percentile(observer.probes_s or [0.0], 0.5),
        "health_p99_ms": 1000 * percentile(observer.probes_s or [0.0], 0.99),
        "rss_anon_mib_per_hour": 3600 * slope_per_s(observer.samples) if len(observer.samples) > 3 else None,
        "first": states and asdict(states[0]),
        "last": states and asdict(states[1]),
    }


def arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="demo", help="as of `llorch serve` (default: demo)")
    parser.add_argument("--minutes", type=float, default=30, metavar="N", help="(default: 30)")
    parser.add_argument(
        "--out", type=Path, default=Path("soak"), metavar="NAME", help="of the files (default: soak)"
    )
    parser.add_argument("--good", type=int, default=4, metavar="N", help="well-behaved clients at once (4)")
    parser.add_argument("--bad", type=int, default=3, metavar="N", help="others at once (3)")
    parser.add_argument("--every", type=float, default=2, metavar="S", help="between samples (2)")
    parser.add_argument("--health-p99-ms", type=float, default=1000 * Tolerances().health_p99_s, metavar="MS")
    parser.add_argument("--server-args", default="", metavar="'ARGS'", help="more arguments of llorch serve")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(words)
    if args.minutes <= 0 or args.good < 1 or args.bad < 0 or args.every <= 0:
        parser.error("expected a run of some length with some clients")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 fine, 1 something is wrong, 2 the server did not start."""
    args = arguments(argv)
    try:
        summary = soak(args)
    except ServerError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    text = json.dumps(summary, indent=1)
    args.out.with_suffix(".json").write_text(text + "\n", "utf-8")
    print(text)
    return 1 if summary["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
