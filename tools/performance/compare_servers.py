#!/usr/bin/env python3
"""Load `llorch serve` and llama.cpp's `llama-server` alternately and write a `performance` proof bundle.

    python -m tools.performance.compare_servers -m 1.1B-q8_0.gguf -m smollm2.gguf -t 2 \\
        --llama-server BUILD/bin/llama-server --loads streams,decode,prefix,stalls,health

Loads: `streams` (so many at once, distinct prompts), `decode` (prompts of two tokens; `llorch bench` at as many
sequences runs beside it, so that the difference is what HTTP costs), `prefix` (the same long prompt twice), `stalls`
(time between tokens while long prompts arrive), `health` (probes while a very long prompt is read).

Every round starts each server once, in alternating order, on the same file with as many slots, contexts and threads,
and runs every load once with the same client. Without `--llama-server` llorch alone is measured. With `--resume FILE`
a comparison that was interrupted goes on where it was: what the file holds is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from llorch.errors import LlorchError
from llorch.machine.threads import default_threads
from llorch.validation.bundle_writer import BundleWriter
from tools.conformance.served import ServerError, llama_server_command, llorch_command, serving
from tools.performance.load_client import LoadError
from tools.performance.peer_runs import LLORCH, PeerError, SpeedTest, run_llorch
from tools.performance.server_loads import LOADS, Load, context_for
from tools.performance.server_report import BENCH, LLAMA_SERVER, table, write_bundle

Run = dict[str, Any]
"""``round``, ``model``, ``server``, ``load`` and its ``figures``."""


def measure_server(
    command: list[str], names: list[str], load: Load, seed: str
) -> dict[str, dict[str, float]]:
    """Start a server, warm it up, run every load once; the figures by load."""
    with serving(command) as (url, _):
        port = int(url.rpartition(":")[2])
        LOADS["streams"][0](port, Load(load.n_streams, 16, 8), f"{seed}/warm-up")
        return {name: LOADS[name][0](port, load, f"{seed}/{name}") for name in names}


def commands(args: argparse.Namespace, model: Path, load: Load) -> dict[str, list[str]]:
    """The command line of each server, with equal slots, contexts and threads."""
    n_ctx, threads = context_for(args.loads, load), str(args.threads)
    chosen = {
        LLORCH: llorch_command(
            str(model), load.n_streams, "-c", str(n_ctx), "-t", threads, *args.llorch_args.split()
        )
    }
    if args.llama_server:
        flags = ["-c", str(n_ctx * load.n_streams), "-t", threads, "-tb", threads, *args.llama_args.split()]
        chosen[LLAMA_SERVER] = llama_server_command(args.llama_server, str(model), load.n_streams, *flags)
    return chosen


class Runs:
    """What has been measured, in memory and in a file.

    Args:
        path: one run a line; runs that are there count as measured.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path and path.is_file() else []
        self.all: list[Run] = [json.loads(line) for line in lines]

    def lacks(self, number: int, model: Path, server: str, names: list[str]) -> bool:
        """Whether one of the loads `names` has not been measured in this round."""
        place = (number + 1, model.name, server)
        done = {run["load"] for run in self.all if (run["round"], run["model"], run["server"]) == place}
        return not done.issuperset(names)

    def keep(self, number: int, model: Path, server: str, found: dict[str, dict[str, float]]) -> None:
        """Add the figures of some loads."""
        new = [
            {"round": number + 1, "model": model.name, "server": server, "load": name, "figures": figures}
            for name, figures in found.items()
        ]
        self.all += new
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(run) + "\n" for run in new)
        for name, figures in found.items():
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            print(f"round {number + 1}  {model.name}  {server}  {name}: {shown}", file=sys.stderr, flush=True)


def measure(args: argparse.Namespace) -> list[Run]:
    """All rounds of all models, as far as they fit the budget."""
    load = Load(args.streams, args.n_prompt, args.n_predict)
    runs = Runs(args.resume)
    begun_s = time.monotonic()
    for number in range(args.rounds):
        if number and (time.monotonic() - begun_s) * (number + 1) / number > 60 * args.budget:
            print(f"stopping after {number} of {args.rounds} rounds: --budget", file=sys.stderr, flush=True)
            break
        for model in args.model:
            chosen = list(commands(args, model, load).items())
            for server, command in chosen if number % 2 == 0 else chosen[::-1]:
                if runs.lacks(number, model, server, args.loads):
                    found = measure_server(command, args.loads, load, f"round {number}")
                    runs.keep(number, model, server, found)
                if (
                    server == LLORCH
                    and "decode" in args.loads
                    and runs.lacks(number, model, BENCH, ["decode"])
                ):
                    test = SpeedTest.parse(f"tg{load.n_predict}@{load.n_streams}")
                    bench = run_llorch(model, test, args.threads, (), 600)
                    runs.keep(number, model, BENCH, {"decode": {"tokens_per_s": bench.tokens_per_s}})
    return runs.all


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", type=Path, action="append", required=True, help="a .gguf file")
    parser.add_argument("--llama-server", type=Path, metavar="PROGRAM", help="llama.cpp's llama-server")
    parser.add_argument("--llorch-args", default="", metavar="'ARGS'", help="more arguments of llorch serve")
    parser.add_argument("--llama-args", default="", metavar="'ARGS'", help="more arguments of llama-server")
    parser.add_argument("--loads", default="streams,decode", metavar="NAME,...", help=f"of {','.join(LOADS)}")
    parser.add_argument("--streams", type=int, default=8, metavar="N", help="at once (default: 8)")
    parser.add_argument("--n-prompt", type=int, default=128, metavar="N", help="of a prompt (default: 128)")
    parser.add_argument("-n", "--n-predict", type=int, default=128, metavar="N", help="(default: 128)")
    parser.add_argument(
        "-t", "--threads", type=int, default=default_threads()[0], metavar="N", help="of both"
    )
    parser.add_argument("-r", "--rounds", type=int, default=5, metavar="N", help="(default: 5)")
    parser.add_argument(
        "--budget",
        type=float,
        default=60,
        metavar="MINUTES",
        help="no round that would not fit (default: 60)",
    )
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep runs there, and go on from them")
    args = parser.parse_args(words)
    args.loads = args.loads.split(",")
    args.model = [model.absolute() for model in args.model]
    if unknown := [name for name in args.loads if name not in LOADS]:
        parser.error(f"--loads: no such load: {', '.join(unknown)}; there are {', '.join(LOADS)}")
    if missing := [str(model) for model in args.model if not model.is_file()]:
        parser.error(f"there is no model at {', '.join(missing)}")
    if args.llama_server and not os.access(args.llama_server, os.X_OK):
        parser.error(f"{args.llama_server} is not a program")
    for name, least in (("streams", 1), ("n_prompt", 1), ("n_predict", 4), ("threads", 1), ("rounds", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name.replace('_', '-')}: expected at least {least}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 fine, 1 a server failed, 2 bad usage."""
    words = sys.argv[1:] if argv is None else argv
    args = _arguments(words)
    try:
        bundle = BundleWriter("performance")  # refuses a bad run id before the work
        runs = measure(args)
        folder = write_bundle(bundle, runs, args, words)
    except (LoadError, ServerError, PeerError, LlorchError, OSError) as error:
        print(f"compare_servers: {error}", file=sys.stderr)
        return 1
    print(table(runs))
    print(f"\n{folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
