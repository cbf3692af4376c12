#!/usr/bin/env python3
"""Measure what steps of the engine take, for `simulate_cluster`: drives `llorch.engine.Engine` directly.

    python -m tools.performance.measure_steps -m smollm2 -t 1 -o steps.json

The table is measured twice: while the other cores are idle, and while another process decodes on each of them, since
cores share memory. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llorch.engine.engine import open_configured
from llorch.errors import LlorchError
from llorch.kernels import paths
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.model.kv_cache import KVCache
from llorch.open_model import OpenModel
from llorch.settings import Settings
from tools.performance.cluster.step_clock import SHORT, costs
from tools.performance.cluster.step_times import StepTimes

ROOT = Path(__file__).resolve().parents[2]
N_DECODE = (0, 1, 2, 4, 8)
N_PROMPT = (0, 1, 4, 16, 64, 256, 512)
CONTEXT = 512
"""Where it is measured what contexts cost, if the model was trained on as many tokens."""


@contextlib.contextmanager
def busy(model: str, cores: Sequence[int], n_threads: int) -> Iterator[None]:
    """Meanwhile, a process decodes on each group of `n_threads` of these cores."""
    processes = []
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    }
    try:
        for begin in range(0, len(cores) - n_threads + 1, n_threads):
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.performance.cluster.busy_core", model, str(n_threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            os.sched_setaffinity(process.pid, cores[begin : begin + n_threads])
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.communicate()


def about(loaded: OpenModel, model: str, n_threads: int, n_cores: int) -> dict[str, Any]:
    """What the table is of."""
    kernels = paths.describe()
    return {
        "model": Path(model).name,
        "n_threads": n_threads,
        "n_cores": n_cores,
        "cpu": kernels["cpu"],
        "path": kernels["path"],
        "positions_like_a_row": loaded.llama.row_cost.equal,
        "kv_bytes_per_token": KVCache.bytes_per_block(loaded.config, "f16") // KV_BLOCK_SIZE,
        "weight_bytes": loaded.llama.residence.n_bytes,
        "n_ctx_train": loaded.config.n_ctx_train,
    }


def measure(model: str, n_threads: int, n_times: int, n_prompt: Sequence[int] = N_PROMPT) -> StepTimes:
    """Measure both tables of a model.

    Raises:
        LlorchError: the model cannot be used.
    """
    cores = sorted(os.sched_getaffinity(0))
    before = set(cores)
    settings = Settings(model=model, threads=n_threads, batch_size=max(n_prompt) + max(N_DECODE))
    try:
        os.sched_setaffinity(0, cores[:n_threads])
        with open_configured(settings, with_chat_template=False) as loaded:
            n_context = min(CONTEXT, max(loaded.config.n_ctx_train // 2, 2 * SHORT))
            alone = costs(loaded, N_DECODE, n_prompt, n_context, n_times)
            others = cores[n_threads:]
            beside = alone
            if len(others) >= n_threads:
                with busy(model, others, n_threads):
                    beside = costs(loaded, N_DECODE, n_prompt, n_context, n_times)
            found = about(loaded, model, n_threads, len(cores))
        return StepTimes(N_DECODE, tuple(n_prompt), alone, beside, found)
    finally:
        os.sched_setaffinity(0, before)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="demo", help="as of `llorch serve` (default: demo)")
    parser.add_argument("-t", "--threads", type=int, default=1, metavar="N", help="(default: 1)")
    parser.add_argument("-r", "--times", type=int, default=3, metavar="N", help="of each step (default: 3)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        times = measure(args.model, args.threads, args.times)
    except LlorchError as error:
        print(f"measure_steps: {error}", file=sys.stderr)
        return 2
    times.save(args.out)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
