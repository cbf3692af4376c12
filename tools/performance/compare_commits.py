#!/usr/bin/env python3
"""Is this commit as fast as another one? Both run alternately, so that other work on the machine slows both.

    git worktree add ../before COMMIT
    python -m tools.performance.compare_commits ../before -m 1.1B.gguf --test pp512 --test tg128 --test tg128@8
    python -m tools.performance.compare_commits ../before --test first-start --test start

Tests are named as llama-bench names them. For those, two processes hold the model open and take turns. `first-start` is
`llorch generate -n 8` with an empty cache of kernels, `start` the same with a full one. A figure above 1 says that this
commit is faster. The other commit uses its own `.venv` where it has one, else this one's packages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from llorch.machine.threads import default_threads
from tools.performance.peer_runs import ROOT, PeerError, SpeedTest

WORKER = ROOT / "tools" / "performance" / "held_model.py"
STARTS = ("first-start", "start")
Timer = Callable[[], float]
"""Runs a test once; returns the seconds it took."""


def python_of(clone: Path) -> tuple[str, dict[str, str]]:
    """The interpreter for a clone, and the environment in which it imports that clone's llorch."""
    own = clone / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable, {**os.environ, "PYTHONPATH": str(clone)}


@contextmanager
def held_model(
    clone: Path, model: str, n_threads: int, tests: Sequence[SpeedTest]
) -> Iterator[dict[str, Timer]]:
    """A process that has loaded `model` with a clone's llorch, and for each test what runs it there."""
    python, environment = python_of(clone)
    n_sequences = max(test.n_sequences for test in tests)
    command = [python, str(WORKER), model, str(n_threads), str(n_sequences)]
    with subprocess.Popen(
        command, cwd=clone, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, answers = process.stdin, process.stdout

        def read() -> str:
            if not (line := answers.readline()):
                raise PeerError(f"llorch of {clone} ended with status {process.wait()}: {command}")
            return line.strip()

        def run(test: SpeedTest) -> float:
            sizes = (test.n_tokens, 1) if test.is_prompt else (1, test.n_tokens)
            order = {"n_prompt": sizes[0], "n_generate": sizes[1], "n_sequences": test.n_sequences}
            to.write(json.dumps(order) + "\n")
            to.flush()
            return float(read())

        if (found := read()) != str(clone):
            raise PeerError(f"{python} imports llorch of {found}, expected that of {clone}")
        yield {test.name: partial(run, test) for test in tests}
        to.close()


def start(clone: Path, model: str, cache: Path | None) -> float:
    """Seconds of `llorch generate -n 8`, with an empty cache of kernels when `cache` is None."""
    python, environment = python_of(clone)
    command = [python, "-m", "llorch", "generate", "Once upon a time", "-m", model, "-n", "8"]
    with tempfile.TemporaryDirectory() as empty:
        environment["LLORCH_CACHE_DIR"] = str(cache or empty)
        begun_s = time.perf_counter()
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - begun_s
    if done.returncode:
        raise PeerError(f"llorch of {clone} failed: {done.stderr.strip()}")
    return seconds


def compare(ours: Timer, theirs: Timer, n_pairs: int) -> dict[str, float]:
    """Run both `n_pairs` times, directly after one another and in alternating order, after one run each to warm up."""
    ours(), theirs()
    seconds: dict[Timer, list[float]] = {ours: [], theirs: []}
    for number in range(n_pairs):
        for timer in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            seconds[timer].append(timer())
    ratios = [other / own for own, other in zip(seconds[ours], seconds[theirs], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if n_pairs > 1 else ratios * 3
    return {
        "this_s": statistics.median(seconds[ours]),
        "other_s": statistics.median(seconds[theirs]),
        "speed": statistics.median(ratios),
        "speed_quartile_1": quartiles[0],
        "speed_quartile_3": quartiles[2],
        "speed_of_sums": sum(seconds[theirs]) / sum(seconds[ours]),
        "n_pairs": n_pairs,
    }


def timers(clone: Path, arguments: argparse.Namespace, stack: ExitStack) -> Mapping[str, Timer]:
    """What runs each test with a clone's llorch; processes and folders live as long as `stack`."""
    tests = [SpeedTest.parse(name) for name in arguments.test if name not in STARTS]
    held = stack.enter_context(held_model(clone, arguments.model, arguments.threads, tests)) if tests else {}
    cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return {
        **held,
        "first-start": lambda: start(clone, arguments.model, None),
        "start": lambda: start(clone, arguments.model, cache),
    }


def main(words: list[str] | None = None) -> int:
    """Measure, and print one line a test, or with `--json` one document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="clone or worktree of the other commit")
    parser.add_argument("-m", "--model", default="demo", help="GGUF file (default: the embedded model)")
    parser.add_argument(
        "--test", action="append", required=True, help="pp512, tg128, tg128@8, first-start, start"
    )
    parser.add_argument("--pairs", type=int, default=20, help="how often each test runs with each commit")
    parser.add_argument("-t", "--threads", type=int, default=default_threads()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.model != "demo":
        arguments.model = str(Path(arguments.model).resolve())
    if arguments.pairs < 1:
        parser.error(f"--pairs is {arguments.pairs}, expected at least 1")
    results = {}
    try:
        with ExitStack() as stack:
            ours, theirs = (timers(clone, arguments, stack) for clone in (ROOT, arguments.other.resolve()))
            for name in arguments.test:
                result = results[name] = compare(ours[name], theirs[name], arguments.pairs)
                print(
                    f"{name}: {result['speed']:.3f} times as fast (quartiles {result['speed_quartile_1']:.3f} to "
                    f"{result['speed_quartile_3']:.3f}, {arguments.pairs} pairs; medians {result['this_s']:.4g} s "
                    f"and {result['other_s']:.4g} s)",
                    file=sys.stderr if arguments.json else sys.stdout,
                    flush=True,
                )
    except PeerError as error:
        print(f"compare_commits: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(
            json.dumps({"model": arguments.model, "threads": arguments.threads, "tests": results}, indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
