"""Decodes with a given number of threads on given CPUs and prints seconds of them and of CPU time. Run as a process."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

N_LEARNING = 400
"""Steps before the measured ones, in which the engine learns how many threads are worth it."""


def main() -> None:
    model_path, cpus, n_threads, n_tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    from llorch.model.batch import Batch
    from llorch.model.kv_cache import KVCache
    from llorch.open_model import open_model

    loaded = open_model(model_path, n_threads=n_threads)
    n_blocks = KVCache.blocks_for(n_tokens)
    cache = KVCache(loaded.config, n_blocks)
    table = np.arange(n_blocks, dtype=np.int32)[None]
    one = np.zeros(1, np.int32)

    def decode(n: int) -> None:
        for position in range(n):
            token_ids, positions = np.array([5], np.int32), np.array([position], np.int32)
            loaded.llama.forward(Batch.of(token_ids, positions, one, table, one), cache)

    decode(N_LEARNING)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    decode(n_tokens)
    print(time.perf_counter() - begun, time.process_time() - cpu_begun)
    loaded.close()


if __name__ == "__main__":
    main()
