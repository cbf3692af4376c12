"""A process that holds a model open and runs what it is told, for `compare_commits`.

It uses nothing but `llorch.load`, so that it runs with the llorch of any commit: the one that PYTHONPATH names.

Arguments: MODEL N_THREADS N_SEQUENCES. Standard input: one JSON object a line: `n_prompt`, `n_generate`, `n_sequences`.
Standard output: a line that says which llorch this is, then the seconds of each run.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llorch


def run(model: llorch.Model, n_prompt: int, n_generate: int, n_sequences: int) -> None:
    """Generate in `n_sequences` threads, which share the model's batches; token 1 is in every vocabulary."""
    with ThreadPoolExecutor(n_sequences) as pool:
        for done in [
            pool.submit(model.generate, [1] * n_prompt, max_tokens=n_generate, ignore_eos=True, temperature=0)
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
