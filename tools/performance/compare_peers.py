#!/usr/bin/env python3
"""Measure llorch and its peers alternately on the same files and write a `performance` proof bundle.

    python -m tools.performance.compare_peers -t 2 --suite issue --models models --peers peers
    python -m tools.performance.compare_peers -t 2 \\
        --case 1.1B-q4_k_m.gguf pp512,tg128,tg128@8 --case 7B-q8_0.gguf pp128,tg32 \\
        --llama-bench BUILD/bin/llama-bench --llama-batched-bench BUILD/bin/llama-batched-bench \\
        --dasllama VENV/bin/dasllama-bench --ik-llama IK_BUILD/bin --openvino VENV/bin/python

Every round runs each test once with llorch and once with each peer, each in a process of its own, one directly after
the other and in alternating order, so that all run under the same load. Without a peer's programs llorch alone is
measured; a peer that does not know a file's types, or fails, has an empty cell and the bundle says why. The bundle
(`proof_bundle/performance/<run id>/`) holds every single run, and for each test a verdict against its fastest peer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from llorch.environment import environment, reproducible_command
from llorch.errors import LlorchError
from llorch.machine.threads import default_threads
from llorch.validation.bundle_writer import GENERATED_BY, BundleWriter
from tools.performance.fingerprints import llorch_packages, model_facts, program_facts
from tools.performance.peer_programs import add_peer_arguments, peers_given
from tools.performance.peer_runs import LLORCH, ROOT, PeerError, SpeedTest
from tools.performance.performance_report import case_of, chart, summary
from tools.performance.rounds import Comparison, measure
from tools.performance.speed_table import count, table
from tools.performance.suites import SUITES, suite_cases


def write_bundle(
    comparison: Comparison,
    n_rounds: int,
    rounds_done: int,
    words: list[str],
    say: Callable[[str], None],
) -> tuple[Path, list[dict[str, Any]]]:
    """Write the bundle; its folder and the summaries."""
    bundle = BundleWriter("performance")
    models = {}
    for model, test in comparison.cases:
        if model not in models:
            say(f"hashing {model.name}")
            output = comparison.rounds[model, test.name][0][LLORCH].output
            models[model] = {"name": output["model"], **model_facts(model)}
    cases = [
        case_of(
            models[model],
            test.name,
            comparison.rounds[model, test.name],
            comparison.measured(model, test),
            comparison.read_gb_per_s(model),
        )
        for model, test in comparison.cases
    ]
    peers = [
        {
            "name": peer.name,
            "version": peer.version(),
            "extra": list(peer.extra),
            "programs": program_facts(peer.programs()),
            "packages": peer.packages(),
            "cannot_load": {
                file: why for (name, file), why in comparison.refusals.items() if name == peer.name
            },
            "failures": {
                f"{test} of {file}": said
                for (name, file, test), said in comparison.failures.items()
                if name == peer.name
            },
        }
        for peer in comparison.peers
    ]

    @cache
    def picture(run_id: str) -> bytes | None:
        return chart(cases, f"{GENERATED_BY}; performance/{run_id}")

    has_chart = picture(bundle.run_id) is not None
    document = {
        "n_threads": comparison.n_threads,
        "rounds_wanted": n_rounds,
        "rounds_done": rounds_done,
        "peers": peers,
        "busy_before_rounds": comparison.busy,
        "has_chart": has_chart,
        "commands": list(dict.fromkeys(run["command"] for run in comparison.runs)),
        "cases": cases,
    }
    bundle.add_json("performance.json", document)
    bundle.add_ndjson("runs.ndjson", comparison.runs)
    if has_chart:
        bundle.add_png("chart.png", lambda run_id: picture(run_id) or b"")
    bundle.add_summary(lambda run_id: summary(document, run_id, environment()))
    folder = bundle.write(
        {"models": list(models.values()), "peers": peers, "packages": llorch_packages()},
        None,
        reproducible_command(["python", "-m", "tools.performance.compare_peers", *words]),
    )
    return folder, cases


def _warm_up(models: set[Path]) -> None:
    """Compile llorch's kernels for `models`, so that no measured run has to."""
    python_path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    for model in sorted(models):
        done = subprocess.run(
            [sys.executable, "-m", "llorch", "warmup", "-m", str(model), "--json"],
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
        default=[],
        metavar=("MODEL", "TESTS"),
        help="a .gguf file and its tests, e.g. pp512,tg128,tg128@8; may be given several times",
    )
    parser.add_argument("--suite", choices=SUITES, help="a named list of files and tests, instead of --case")
    parser.add_argument(
        "--models", type=Path, default=Path("models"), metavar="FOLDER", help="of the suite (default: models)"
    )
    add_peer_arguments(parser)
    parser.add_argument("--llorch-args", default="", metavar="'ARGS'", help="more arguments of llorch bench")
    parser.add_argument("-t", "--threads", type=int, metavar="N", help="of all (default: llorch's choice)")
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


def _comparison(args: argparse.Namespace, scratch: Path, say: Callable[[str], None]) -> Comparison:
    """The comparison that the command line asks for.

    Raises:
        PeerError: an argument is invalid.
    """
    for name in ("rounds", "timeout", "budget", "threads"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise PeerError(f"--{name}: expected more than 0, got {value:g}")
    cases = suite_cases(args.suite, args.models, say) if args.suite else []
    for model, names in args.case:
        path = Path(model).absolute()
        if not path.is_file():
            raise PeerError(f"there is no model at {model}")
        cases += [(path, SpeedTest.parse(name)) for name in names.split(",")]
    if not cases:
        raise PeerError("expected --case MODEL TESTS or --suite NAME")
    if len(set(cases)) < len(cases):
        raise PeerError("--case: the same test of the same model is there twice")
    n_threads = args.threads or default_threads()[0]
    return Comparison(
        cases, peers_given(args, scratch), n_threads, tuple(args.llorch_args.split()), args.timeout
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 fine, 1 a program failed, 2 bad usage, 130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    args = _arguments(words)
    with tempfile.TemporaryDirectory(prefix="compare-peers-") as scratch:
        return _compare(args, words, Path(scratch))


def _compare(args: argparse.Namespace, words: list[str], scratch: Path) -> int:
    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        comparison = _comparison(args, scratch, say)
        BundleWriter("performance")  # refuses a bad run id before hours of work
    except (PeerError, LlorchError, OSError) as error:
        say(f"compare_peers: {error}")
        return 2
    try:
        _warm_up({model for model, _ in comparison.cases})
        rounds_done = measure(comparison, args.rounds, 60 * args.budget, say)
        folder, cases = write_bundle(comparison, args.rounds, rounds_done, words, say)
    except KeyboardInterrupt:
        say("compare_peers: interrupted, nothing was written")
        return 130
    except (PeerError, LlorchError, OSError, json.JSONDecodeError) as error:
        say(f"compare_peers: {error}")
        return 1
    print(table(cases, [peer.name for peer in comparison.peers]))
    if counted := count(cases):
        print(f"\n{counted}")
    print(f"\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
