#!/usr/bin/env python3
"""How fast are products with weights of each block format? The table of docs/formats.md.

    python -m tools.performance.compare_formats -t 2

A matrix of random blocks, larger than any cache, is multiplied with one token, with eight and with a prompt of 256.
GB/s are those of the packed weights; memory's speed is that of a plain read in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from llorch.bench.bandwidth import ReadBandwidth
from llorch.kernels import paths
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.cpu import model_name
from llorch.machine.threads import default_threads
from tools.performance.products import product, random_matrix, step_of

N_OUT, N_IN = 45056, 2048
TOKENS = (1, 8, 256)


def timed(team: Team, program: Program, n_tokens: int) -> Callable[[], float]:
    """A function that multiplies once and returns the seconds it took."""
    step = step_of(n_tokens)

    def run() -> float:
        records = program.records()  # the program keeps alive what they point to
        counters = np.zeros(1, np.int64)
        begun = time.perf_counter()
        team.run(records, 0, 1, step, counters)
        return time.perf_counter() - begun

    return run


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-t", "--threads", type=int, default=default_threads()[0])
    parser.add_argument("-r", "--rounds", type=int, default=7)
    args = parser.parse_args()
    formats = [f for f in FORMATS.values() if f.tiling is not None]
    scratch = max(f.scratch_bytes(N_IN, is_packed=True) for f in formats)
    team = Team(args.threads, scratch)
    times: dict[tuple[str, int], list[float]] = {}
    speeds = []
    with ReadBandwidth(args.threads) as bandwidth:
        for weight_format in formats:
            runs = {
                n: timed(team, product(team, [random_matrix(weight_format, N_OUT, N_IN)], n), n)
                for n in TOKENS
            }
            for _ in range(args.rounds):
                speeds.append(bandwidth.measure())
                for n, run in runs.items():
                    times.setdefault((weight_format.quant.name, n), []).append(run())
    team.close()
    speed = statistics.median(speeds) / 1e9
    print(f"{model_name()}, {args.threads} threads, {paths.path()} kernels, memory {speed:.1f} GB/s\n")
    print("| type | bits a weight: file, tiles | one token, GB/s | eight tokens, GMAC/s | prompt, GMAC/s |")
    print("|---|---|---|---|---|")
    for f in formats:
        size = f.packed_bytes(N_OUT, N_IN)
        one, eight, many = (statistics.median(times[f.quant.name, n]) for n in TOKENS)
        bits = f.quant.block_bytes * 8 / f.quant.block_size, size * 8 / (N_OUT * N_IN)
        macs = N_OUT * N_IN / 1e9
        print(
            f"| {f.quant.name} | {bits[0]:.2f}, {bits[1]:.2f} | {size / one / 1e9:.1f} | {8 * macs / eight:.0f} "
            f"| {256 * macs / many:.0f} |"
        )


if __name__ == "__main__":
    main()
