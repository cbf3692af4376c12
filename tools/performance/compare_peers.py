#!/usr/bin/env python3
"""Measure llorch and a peer alternately on the same files and write a `performance` proof bundle.

    python -m tools.performance.compare_peers -t 2 \\
        --case 1.1B-q8_0.gguf pp512,tg128,tg128@8 --case 7B-q8_0.gguf pp128,tg32 \\
        --llama-bench BUILD/bin/llama-bench --llama-batched-bench BUILD/bin/llama-batched-bench

Every round runs each test once with llorch and once with the peer, each in a process of its own, one directly after
the other and in alternating order, so that both run under the same load. Without the peer's programs llorch alone is
measured. The bundle (`proof_bundle/performance/<run id>/`) holds every single run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llorch.environment import environment, reproducible_command
from llorch.errors import LlorchError
from llorch.machine.threads import default_threads
from llorch.validation.bundle import GENERATED_BY, BundleWriter
from llorch.validation.records import sha256_of_file
from tools.performance.peer_runs import (
    LLORCH,
    ROOT,
    Peer,
    PeerError,
    Run,
    SpeedTest,
    peer_version,
    run_llorch,
    run_peer,
)
from tools.performance.performance_report import case_of, chart, summary, table

Key = tuple[Path, str]
BUSY_SHARE = 0.1
"""Share of the CPUs that other work may take without a warning."""


@dataclass
class Comparison:
    """A comparison: what to measure, and the runs so far.

    Attributes:
        cases: models and tests, in order.
        peer: the other engine, if any.
        n_threads: compute threads of both.
        llorch_extra: more arguments of `llorch bench`.
        timeout_s: for one process.
        rounds: by model and test, the runs of each complete round by engine.
        runs: every run in order of time, with its round.
        busy: share of the CPUs that other work took just before each round; empty where it is unknown.
    """

    cases: list[tuple[Path, SpeedTest]]
    peer: Peer | None
    n_threads: int
    llorch_extra: tuple[str, ...]
    timeout_s: float
    rounds: dict[Key, list[dict[str, Run]]] = field(default_factory=lambda: defaultdict(list))
    runs: list[dict[str, Any]] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def run_round(self, number: int, say: Callable[[str], None]) -> None:
        """Run everything once more; even rounds begin with llorch, odd ones with the peer."""
        busy = _busy_share()
        if busy is not None:
            self.busy.append(busy)
            if busy > BUSY_SHARE:
                say(
                    f"warning: other work takes {100 * busy:.0f} % of the CPUs; this round's speeds mean little"
                )
        for model, test in self.cases:
            engines: list[Callable[[], Run]] = [
                lambda model=model, test=test: run_llorch(  # type: ignore[misc]
                    model, test, self.n_threads, self.llorch_extra, self.timeout_s
                )
            ]
            if (peer := self.peer) and peer.program_for(test):
                engines.append(
                    lambda model=model, test=test, peer=peer: run_peer(  # type: ignore[misc]
                        peer, model, test, self.n_threads, self.timeout_s
                    )
                )
            found = {}
            for engine in engines if number % 2 == 0 else reversed(engines):
                run = engine()
                say(
                    f"round {number + 1}  {model.name}  {test.name}  {run.engine}  {run.tokens_per_s:,.2f} tokens/s"
                )
                found[run.engine] = run
                self.runs.append({"round": number + 1, "model": model.name, "test": test.name, **asdict(run)})
            self.rounds[model, test.name].append(found)


def measure(comparison: Comparison, n_rounds: int, budget_s: float, say: Callable[[str], None]) -> int:
    """Run rounds until all are done or the next would not fit the budget; how many there were."""
    begun = time.monotonic()
    for number in range(n_rounds):
        comparison.run_round(number, say)
        elapsed = time.monotonic() - begun
        if number + 1 < n_rounds and elapsed * (number + 2) / (number + 1) > budget_s:
            say(f"stopping after {number + 1} of {n_rounds} rounds: the next would not fit --budget")
            return number + 1
    return n_rounds


def write_bundle(
    comparison: Comparison,
    n_rounds: int,
    rounds_done: int,
    words: list[str],
    say: Callable[[str], None],
) -> tuple[Path, list[dict[str, Any]]]:
    """Write the bundle; its folder and the summaries."""
    bundle = BundleWriter("performance")
    peer = comparison.peer
    models = {}
    for model, test in comparison.cases:
        if model not in models:
            say(f"hashing {model.name}")
            output = comparison.rounds[model, test.name][0][LLORCH].output
            size, digest = model.stat().st_size, sha256_of_file(model)
            models[model] = {"file": model.name, "name": output["model"], "bytes": size, "sha256": digest}
    cases = [
        case_of(
            models[model],
            test.name,
            comparison.rounds[model, test.name],
            peer.name if peer and peer.program_for(test) else None,
        )
        for model, test in comparison.cases
    ]
    picture = chart(cases, f"{GENERATED_BY}; performance/{bundle.run_id}")
    document = {
        "n_threads": comparison.n_threads,
        "rounds_wanted": n_rounds,
        "rounds_done": rounds_done,
        "peer": {"name": peer.name, "version": peer_version(peer), "extra": list(peer.extra)}
        if peer
        else None,
        "busy_before_rounds": comparison.busy,
        "has_chart": picture is not None,
        "commands": list(dict.fromkeys(run["command"] for run in comparison.runs)),
        "cases": cases,
    }
    bundle.add_json("performance.json", document)
    bundle.add_ndjson("runs.ndjson", comparison.runs)
    if picture is not None:
        bundle.add_png("chart.png", picture)
    bundle.add_summary(summary(document, bundle.run_id, environment()))
    about = {"models": list(models.values()), "peer": document["peer"]}
    folder = bundle.write(
        about, None, reproducible_command(["python", "-m", "tools.performance.compare_peers", *words])
    )
    return folder, cases


def _busy_share() -> float | None:
    """Share of all CPU time that other processes take during one second; None where unknown."""

    def times() -> list[int]:
        return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]

    try:
        before = times()
        time.sleep(1)
        spent = [b - a for a, b in zip(before, times(), strict=True)]
    except (OSError, ValueError):
        return None
    idle = spent[3] + spent[4]  # idle, waiting for a disk
    return 1 - idle / sum(spent) if sum(spent) else None


def _warm_up() -> None:
    """Compile llorch's kernels, so that no measured run has to."""
    python_path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    done = subprocess.run(
        [sys.executable, "-m", "llorch", "warmup", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": python_path},
    )
    if done.returncode:
        raise PeerError(f"llorch warmup failed: {done.stderr.strip()[-300:]}")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="LLORCH_CPU=avx2 masks CPU features of llorch."
    )
    parser.add_argument(
        "--case",
        nargs=2,
        action="append",
        required=True,
        metavar=("MODEL", "TESTS"),
        help="a .gguf file and its tests, e.g. pp512,tg128,tg128@8; may be given several times",
    )
    parser.add_argument("--llama-bench", type=Path, metavar="PROGRAM", help="the peer's llama-bench")
    parser.add_argument(
        "--llama-batched-bench", type=Path, metavar="PROGRAM", help="the peer's llama-batched-bench"
    )
    parser.add_argument("--peer-name", default="llama.cpp", metavar="NAME", help="(default: llama.cpp)")
    parser.add_argument("--peer-args", default="", metavar="'ARGS'", help="more arguments of the peer")
    parser.add_argument("--llorch-args", default="", metavar="'ARGS'", help="more arguments of llorch bench")
    parser.add_argument("-t", "--threads", type=int, metavar="N", help="of both (default: llorch's choice)")
    parser.add_argument("-r", "--rounds", type=int, default=5, metavar="N", help="(default: 5)")
    parser.add_argument(
        "--timeout", type=float, default=900, metavar="SECONDS", help="for one process (default: 900)"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=120,
        metavar="MINUTES",
        help="no round is begun that would not fit (default: 120)",
    )
    return parser.parse_args(argv)


def _comparison(args: argparse.Namespace) -> Comparison:
    """The comparison that the command line asks for.

    Raises:
        PeerError: an argument is invalid.
    """
    for name in ("rounds", "timeout", "budget", "threads"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise PeerError(f"--{name}: expected more than 0, got {value:g}")
    cases = []
    for model, names in args.case:
        path = Path(model).absolute()
        if not path.is_file():
            raise PeerError(f"there is no model at {model}")
        cases += [(path, SpeedTest.parse(name)) for name in names.split(",")]
    if len(set(cases)) < len(cases):
        raise PeerError("--case: the same test of the same model is there twice")
    for program in (args.llama_bench, args.llama_batched_bench):
        if program is not None and not os.access(program, os.X_OK):
            raise PeerError(f"{program} is not a program")
    peer = None
    if args.llama_bench or args.llama_batched_bench:
        if args.peer_name == LLORCH:
            raise PeerError(f"--peer-name {LLORCH}: the peer needs a name of its own")
        programs = [p.absolute() if p else None for p in (args.llama_bench, args.llama_batched_bench)]
        peer = Peer(args.peer_name, programs[0], programs[1], tuple(args.peer_args.split()))
        peer_version(peer)
    n_threads = args.threads or default_threads()[0]
    return Comparison(cases, peer, n_threads, tuple(args.llorch_args.split()), args.timeout)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 fine, 1 a program failed, 2 bad usage, 130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    args = _arguments(words)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        comparison = _comparison(args)
        BundleWriter("performance")  # refuses a bad run id before hours of work
    except (PeerError, LlorchError, OSError) as error:
        say(f"compare_peers: {error}")
        return 2
    try:
        _warm_up()
        rounds_done = measure(comparison, args.rounds, 60 * args.budget, say)
        folder, cases = write_bundle(comparison, args.rounds, rounds_done, words, say)
    except KeyboardInterrupt:
        say("compare_peers: interrupted, nothing was written")
        return 130
    except (PeerError, LlorchError, OSError, json.JSONDecodeError) as error:
        say(f"compare_peers: {error}")
        return 1
    print(table(cases, comparison.peer.name if comparison.peer else None))
    print(f"\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
