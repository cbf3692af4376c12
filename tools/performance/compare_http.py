#!/usr/bin/env python3
"""What does HTTP cost? `llorch serve` and `llorch bench` by turns, in short runs, each with its model loaded.

    python -m tools.performance.compare_http SmolLM2-135M-Instruct.Q4_1.gguf -t 2 -r 15

Both decode as many sequences side by side, from prompts of next to nothing to the same context. A machine whose speed
changes from second to second slows both sides of a pair or one: the median over many pairs is what counts. CPU time of
the event loop for a token does not depend on that: it is told beside it (Linux only).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llorch.bench.tests import BenchTest, run_bench
from llorch.errors import LlorchError
from llorch.machine.threads import default_threads
from tools.conformance.served import ServerError, llorch_command, serving
from tools.performance.load_client import LoadError
from tools.performance.server_loads import Load, context_for, decode_only

WARM_UP = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """A run of each.

    Attributes:
        server, bench: tokens per second of all sequences.
        loop_us: CPU time of the server's event loop for a token, in microseconds; the system's part of it included.
    """

    server: float
    bench: float
    loop_us: float

    @property
    def cost(self) -> float:
        """Share of the bare speed that is lost."""
        return 1 - self.server / self.bench


def thread_cpu_s(thread_id: int) -> float:
    """CPU time of a thread so far, in seconds; of a process's event loop, if the id is that of the process."""
    words = Path(f"/proc/{thread_id}/task/{thread_id}/schedstat").read_text("ascii").split()
    return int(words[0]) / 1e9


def pairs(model: Path, load: Load, n_threads: int, n_rounds: int) -> Iterator[Pair]:
    """Measure alternately; each pair as soon as it is there. Which one comes first changes, too.

    Raises:
        LlorchError, ServerError, LoadError: one of them does not run.
    """
    test = BenchTest("tg", load.n_predict, load.n_streams)
    speeds = (
        result.tokens_per_s
        for result in run_bench(model, [test] * (n_rounds + 1), n_threads=n_threads, repetitions=1)
    )
    next(speeds)
    flags = ("-c", str(context_for(["decode"], load)), "-t", str(n_threads))
    with serving(llorch_command(str(model), load.n_streams, *flags)) as (url, process):
        port = int(url.rpartition(":")[2])
        decode_only(port, Load(load.n_streams, load.n_prompt, WARM_UP), "warm-up")
        for number in range(n_rounds):
            bench = next(speeds) if number % 2 else None
            begun_s = thread_cpu_s(process.pid)
            server = decode_only(port, load, f"round {number}")["tokens_per_s"]
            loop_us = 1e6 * (thread_cpu_s(process.pid) - begun_s) / (load.n_streams * load.n_predict)
            yield Pair(server, next(speeds) if bench is None else bench, loop_us)


def summary(found: Sequence[Pair]) -> str:
    """Medians with quartiles."""
    costs = sorted(100 * pair.cost for pair in found)
    low, middle, high = statistics.quantiles(costs, n=4, method="inclusive") if len(costs) > 1 else costs * 3
    server, bench, loop_us = (
        statistics.median(getattr(pair, name) for pair in found) for name in ("server", "bench", "loop_us")
    )
    return (
        f"{len(found)} pairs: HTTP costs {middle:.1f} % (quartiles {low:.1f} to {high:.1f}); "
        f"medians: server {server:.0f}, bench {bench:.0f} tokens/s; event loop {loop_us:.1f} us for a token"
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 fine, 1 a side does not run, 2 bad usage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a .gguf file")
    parser.add_argument("--streams", type=int, default=8, metavar="N", help="at once (default: 8)")
    parser.add_argument("-n", "--n-predict", type=int, default=256, metavar="N", help="(default: 256)")
    parser.add_argument("-t", "--threads", type=int, default=default_threads()[0], metavar="N")
    parser.add_argument("-r", "--rounds", type=int, default=15, metavar="N", help="pairs (default: 15)")
    args = parser.parse_args(argv)
    found = []
    try:
        load = Load(args.streams, 2, args.n_predict)
        for pair in pairs(args.model.absolute(), load, args.threads, args.rounds):
            found.append(pair)
            print(f"server {pair.server:.1f}  bench {pair.bench:.1f}  loop {pair.loop_us:.1f} us", flush=True)
    except (LlorchError, ServerError, LoadError, OSError) as error:
        print(f"compare_http: {error}", file=sys.stderr)
        return 1
    print(summary(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
