#!/usr/bin/env python3
"""Measure llorch and its peers alternately on the same files and write a `performance` proof bundle.

    python -m tools.performance.compare_peers -t 2 \\
        --case 1.1B-q4_k_m.gguf pp512,tg128,tg128@8 --case 7B-q8_0.gguf pp128,tg32 \\
        --llama-bench BUILD/bin/llama-bench --llama-batched-bench BUILD/bin/llama-batched-bench \\
        --dasllama VENV/bin/dasllama-bench --ik-llama IK_BUILD/bin

Every round runs each test once with llorch and once with each peer, each in a process of its own, one directly after
the other and in alternating order, so that all run under the same load. Without a peer's programs llorch alone is
measured; a peer that does not know a file's types is left out for that file. The bundle
(`proof_bundle/performance/<run id>/`) holds every single run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llorch.environment import environment, reproducible_command
from llorch.errors import LlorchError
from llorch.machine.threads import default_threads
from llorch.validation.bundle import GENERATED_BY, BundleWriter
from tools.performance.fingerprints import llorch_packages, model_facts, program_facts
from tools.performance.peer_runs import LLORCH, ROOT, PeerError, SpeedTest
from tools.performance.peers import DasLlama, IkLlamaCpp, LlamaCpp, Peer
from tools.performance.performance_report import case_of, chart, summary, table
from tools.performance.rounds import Comparison, measure


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
            [peer.name for peer in comparison.peers_for(model, test)],
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
        }
        for peer in comparison.peers
    ]
    picture = chart(cases, f"{GENERATED_BY}; performance/{bundle.run_id}")
    document = {
        "n_threads": comparison.n_threads,
        "rounds_wanted": n_rounds,
        "rounds_done": rounds_done,
        "peers": peers,
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
        required=True,
        metavar=("MODEL", "TESTS"),
        help="a .gguf file and its tests, e.g. pp512,tg128,tg128@8; may be given several times",
    )
    parser.add_argument("--llama-bench", type=Path, metavar="PROGRAM", help="llama.cpp's llama-bench")
    parser.add_argument(
        "--llama-batched-bench", type=Path, metavar="PROGRAM", help="llama.cpp's llama-batched-bench"
    )
    parser.add_argument(
        "--peer-name", default="llama.cpp", metavar="NAME", help="of that build (default: llama.cpp)"
    )
    parser.add_argument("--peer-args", default="", metavar="'ARGS'", help="more arguments of that build")
    parser.add_argument("--ik-llama", type=Path, metavar="FOLDER", help="ik_llama.cpp's build/bin")
    parser.add_argument("--dasllama", type=Path, metavar="PROGRAM", help="dasLLAMA's dasllama-bench")
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


def _comparison(args: argparse.Namespace, scratch: Path) -> Comparison:
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
    n_threads = args.threads or default_threads()[0]
    return Comparison(cases, _peers(args, scratch), n_threads, tuple(args.llorch_args.split()), args.timeout)


def _peers(args: argparse.Namespace, scratch: Path) -> list[Peer]:
    """The peers whose programs were given; dasLLAMA works in `scratch`."""
    ik = [args.ik_llama and args.ik_llama / name for name in ("llama-bench", "llama-batched-bench")]
    given = [args.llama_bench, args.llama_batched_bench, *ik, args.dasllama]
    for program in filter(None, given):
        if not os.access(program, os.X_OK):
            raise PeerError(f"{program} is not a program")
    bench, batched, ik_bench, ik_batched, das = [program and program.absolute() for program in given]
    peers: list[Peer] = []
    if bench or batched:
        peers.append(LlamaCpp(args.peer_name, bench, batched, tuple(args.peer_args.split())))
    if ik_bench:
        peers.append(IkLlamaCpp("ik_llama.cpp", ik_bench, ik_batched))
    if das:
        peers.append(DasLlama(das, scratch))
    names = [LLORCH, *(peer.name for peer in peers)]
    if len(set(names)) < len(names):
        raise PeerError(f"--peer-name {args.peer_name}: the peer needs a name of its own")
    for peer in peers:
        peer.version()  # fails now rather than after hours
    return peers


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
        comparison = _comparison(args, scratch)
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
    print(f"\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
