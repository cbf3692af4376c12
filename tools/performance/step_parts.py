#!/usr/bin/env python3
"""Take a step apart: milliseconds of each operation in a prompt, in one decode step and in one of eight sequences.

    python -m tools.performance.step_parts -m smollm2 -t 2

Kernels stamp the begin and the end of every instruction. A time is the median over the steps, of the mean over the
threads, from the begin of the operation to that of the next one: waiting for other threads counts. For another commit,
run this file with `PYTHONPATH` set to its work tree. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from llorch.errors import LlorchError
from llorch.kernels.clock import read_ticks
from llorch.model.batch import Batch
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.open_model import open_model

SHAPES = {"prompt of 512": (1, 512, 0), "one sequence": (1, 1, 64), "eight sequences": (8, 1, 64)}
"""Sequences, new rows of each, and positions before them."""
STEP = "step"
_WARM_UP = 3


def ticks_per_ms(seconds: float = 0.1) -> float:
    """Speed of the counter that instructions are stamped with."""
    begun, ticks = time.perf_counter(), read_ticks()
    time.sleep(seconds)
    return (read_ticks() - ticks) / (time.perf_counter() - begun) / 1e3


def batch_of(n_vocab: int, n_sequences: int, n_rows: int, n_before: int) -> tuple[Batch, int]:
    """Random tokens of some sequences at equal positions, and how many KV blocks they need."""
    n_blocks = KVCache.blocks_for(n_before + n_rows)
    n_all = n_sequences * n_blocks
    positions = np.tile(np.arange(n_before, n_before + n_rows, dtype=np.int32), n_sequences)
    make: Callable[..., Batch] = getattr(Batch, "of", Batch)  # commits up to e72b698 make it directly
    batch = make(
        token_ids=np.random.default_rng(0).integers(n_vocab, size=len(positions), dtype=np.int32),
        positions=positions,
        slots=np.repeat(np.arange(n_sequences, dtype=np.int32), n_rows),
        block_tables=np.arange(n_all, dtype=np.int32).reshape(n_sequences, n_blocks),
        output_rows=np.arange(1, n_sequences + 1, dtype=np.int32) * n_rows - 1,
    )
    return batch, n_all


def take_apart(llama: Llama, n_sequences: int, n_rows: int, n_before: int, n_times: int) -> dict[str, float]:
    """Milliseconds of the whole step (`STEP`) and of each operation in all layers together."""
    batch, n_blocks = batch_of(llama.config.n_vocab, n_sequences, n_rows, n_before)
    cache, stamps = KVCache(llama.config, n_blocks, "f16"), llama.new_stamps()
    names = [label for label, _ in llama.labels]
    found: dict[str, list[float]] = {}
    for i in range(n_times + _WARM_UP):
        llama.forward(batch, cache, stamps=stamps)
        if i < _WARM_UP:
            continue
        begins, end = stamps.ticks[:, :, 0], stamps.ticks[:, :, 1].max()
        lasted = np.diff(begins, axis=0, append=end).mean(1)
        for name in dict.fromkeys(names):
            here = [name == other for other in names[: len(lasted)]]
            found.setdefault(name, []).append(float(lasted[here].sum()))
        found.setdefault(STEP, []).append(float(end - begins.min()))
    rate = ticks_per_ms()
    return {name: float(np.median(ticks)) / rate for name, ticks in found.items()}


def table(columns: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Lines of a Markdown table: operations, by shape."""
    yield f"| ms | {' | '.join(columns)} |"
    yield "|---|" + "---|" * len(columns)
    names = dict.fromkeys(name for column in columns.values() for name in column)
    for name in (STEP, *(name for name in names if name != STEP)):
        cells = (f"{column[name]:.3g}" if name in column else "" for column in columns.values())
        yield f"| {name} | {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="demo", help="as of `llorch serve` (default: demo)")
    parser.add_argument(
        "-t", "--threads", type=int, default=0, metavar="N", help="(default: as `llorch` does)"
    )
    parser.add_argument("-r", "--times", type=int, default=20, metavar="N", help="of each step (default: 20)")
    args = parser.parse_args(argv)
    try:
        with open_model(args.model, with_tokenizer=False, n_threads=args.threads) as model:
            columns = {name: take_apart(model.llama, *shape, args.times) for name, shape in SHAPES.items()}
    except LlorchError as error:
        print(f"step_parts: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(columns)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
