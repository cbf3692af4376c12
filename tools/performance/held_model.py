"""A process that holds a model open and runs what it is told, for `compare_commits`.

It uses nothing but `llorch.load`, so that it runs with the llorch of any commit: the one that PYTHONPATH names.

Arguments: MODEL N_THREADS N_SEQUENCES. Standard input: one JSON object a line: `n_prompt`, `n_generate`, `n_sequences`.
Standard output: a line that says which llorch this is, then the seconds of each run.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llorch

_LOWEST_IDS = range(3, 253)
"""Token ids that every vocabulary has."""

_numbers = itertools.count()


def new_prompt(n: int) -> list[int]:
    """Token ids, (n,), that begin as no earlier ones, so that no cache of prefixes has any of them."""
    number = next(_numbers)
    first = [_LOWEST_IDS[number // len(_LOWEST_IDS) ** i % len(_LOWEST_IDS)] for i in range(2)]
    return (first + [1] * n)[:n]


def run(model: llorch.Model, n_prompt: int, n_generate: int, n_sequences: int) -> None:
    """Generate in `n_sequences` threads, which share the model's batches."""
    with ThreadPoolExecutor(n_sequences) as pool:
        for done in [
            pool.submit(
                model.generate, new_prompt(n_prompt), max_tokens=n_generate, ignore_eos=True, temperature=0
            )
            for _ in range(n_sequences)
        ]:
            done.result()


def main() -> None:
    """Load, then run until standard input ends."""
    path, n_threads, n_sequences = sys.argv[1:]
    with llorch.load(path, threads=int(n_threads), parallel=int(n_sequences)) as model:
        print(Path(llorch.__file__).parents[1], flush=True)
        for line in sys.stdin:
            begun_s = time.perf_counter()
            run(model, **json.loads(line))
            print(time.perf_counter() - begun_s, flush=True)


if __name__ == "__main__":
    main()
