"""Decodes with a given number of threads on given CPUs and prints tokens per second. Run as a process."""

from __future__ import annotations

import os
import sys
import time

import numpy as np


def main() -> None:
    model_path, cpus, n_threads, n_tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    from llorch.model.batch import Batch
    from llorch.model.kv_cache import KVCache
    from llorch.open_model import open_model

    loaded = open_model(model_path, n_threads=n_threads)
    n_blocks = KVCache.blocks_for(n_tokens + 16)
    cache = KVCache(loaded.config, n_blocks)
    table = np.arange(n_blocks, dtype=np.int32)[None]
    one = np.zeros(1, np.int32)

    def decode(first: int, last: int) -> None:
        for position in range(first, last):
            token_ids, positions = np.array([5], np.int32), np.array([position], np.int32)
            loaded.llama.forward(Batch.of(token_ids, positions, one, table, one), cache)

    decode(0, 16)
    begun = time.perf_counter()
    decode(16, 16 + n_tokens)
    print(n_tokens / (time.perf_counter() - begun))
    loaded.close()


if __name__ == "__main__":
    main()
