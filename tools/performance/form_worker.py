"""One form of a model in a process of its own, for `compare_directories`: loading time, peak memory, logits.

    python -m tools.performance.form_worker MODEL N_THREADS TOKENS.npy LOGITS.npy
    PYTHON -m tools.performance.form_worker --oracle DIRECTORY TOKENS.npy LOGITS.npy

The second form computes the logits with transformers, in float32.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def run_llorch(
    model: str, n_threads: int, token_ids: NDArray[np.int32]
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Logits of one sequence, and seconds of loading and bytes of peak memory."""
    from llorch.conversation import Conversation
    from llorch.open_model import open_model

    begun = time.perf_counter()
    with open_model(model, with_tokenizer=False, n_threads=n_threads) as opened:
        load_s = time.perf_counter() - begun
        logits = Conversation(opened.llama, len(token_ids)).feed(token_ids, all_rows=True)
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return logits, {"load_s": load_s, "peak_bytes": 1024 * int(peak.split()[1])}


def run_oracle(directory: Path, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Logits of one sequence as transformers computes them."""
    from tools.oracles.transformers_run import load_compressed, load_llama, logits_of

    is_quantised = "quantization_config" in json.loads((directory / "config.json").read_bytes())
    return logits_of((load_compressed if is_quantised else load_llama)(directory), token_ids.tolist())


def main() -> None:
    """Compute, and print figures as JSON."""
    *what, tokens, out = sys.argv[1:]
    token_ids = np.load(tokens)
    figures: dict[str, float] = {}
    if what[0] == "--oracle":
        logits = run_oracle(Path(what[1]), token_ids)
    else:
        logits, figures = run_llorch(what[0], int(what[1]), token_ids)
    np.save(out, logits)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
