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
from llorch.kernels import step as st
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.ops.matmul import matmul
from llorch.kernels.ops.prepare import prepare
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.kernels.weights.format import Matrix, RowTables, WeightFormat
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.cpu import model_name
from llorch.machine.memory import aligned_bytes
from llorch.machine.threads import default_threads
from llorch.quant.tensor import Tensor
from llorch.quant.types import I8

N_OUT, N_IN = 45056, 2048
TOKENS = (1, 8, 256)


def random_matrix(weight_format: WeightFormat) -> Matrix:
    """Packed tiles of random blocks with finite scales; all tiles are one, repeated."""
    quant, tiling = weight_format.quant, weight_format.tiling
    assert tiling is not None
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (tiling.tile_rows * N_IN // quant.block_size, quant.block_bytes), np.uint8)
    while (bad := ~np.isfinite(quant.scales(blocks.ravel())).all(axis=-1)).any():
        blocks[bad] = rng.integers(0, 256, (int(bad.sum()), quant.block_bytes), np.uint8)
    stride, n_tiles = tiling.tile_bytes(N_IN), N_OUT // tiling.tile_rows
    tiles = aligned_bytes(n_tiles * stride)
    scales = np.ones(N_OUT, np.float32) if quant is I8 else None
    rows = RowTables.of(Tensor("w", quant, (N_OUT, N_IN), blocks.ravel(), row_scales=scales))
    order, _ = rows.addresses
    tiling.pack(int(blocks.ctypes.data), N_IN, tiling.tile_rows, int(tiles.ctypes.data), stride, 0, 1, order)
    tiles.reshape(n_tiles, stride)[1:] = tiles[:stride]
    return Matrix(weight_format, N_OUT, N_IN, int(tiles.ctypes.data), True, (tiles, rows), *rows.addresses)


def product(team: Team, matrix: Matrix, n_tokens: int) -> Callable[[], float]:
    """A function that multiplies once and returns the seconds it took."""
    assert matrix.format.activation is not None
    x = Activation.empty(n_tokens, N_IN, [matrix.format.activation])
    x.rows.data[:] = np.random.default_rng(1).standard_normal(x.rows.data.shape)
    first, program, out = Program(), Program(), Rows.empty(n_tokens, N_OUT)
    prepare(first, 0, x)
    matmul(program, "product", 0, matrix, x, out)
    step = np.zeros(st.STEP_SIZE, np.int64)
    step[st.N_ROWS] = n_tokens
    team.run(first.records(), 0, 1, step, np.zeros(1, np.int64))

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
            runs = {n: product(team, random_matrix(weight_format), n) for n in TOKENS}
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
