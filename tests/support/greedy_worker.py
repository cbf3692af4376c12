"""Greedy continuations of stored prompts, as JSON on stdout: {golden file's stem: [token ids of each prompt]}.

    LLORCH_SUMS=llama.cpp python -m tests.support.greedy_worker GOLDEN.json=MODEL.gguf...

A process chooses its order of additions when it starts, so llama.cpp's order needs a process of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llorch.kernels import paths
from llorch.machine.threads import default_threads
from llorch.model.llama import Llama
from tests.support.small_models import Run, open_model


def continuations(llama: Llama, prompts: list[list[int]], n_tokens: int) -> list[list[int]]:
    """Greedy tokens of all prompts, read one after the other and continued side by side."""
    run = Run(llama, n_sequences=len(prompts), n_positions=max(map(len, prompts)) + n_tokens)
    made = [[int(run.prefill(ids, s)[-1].argmax())] for s, ids in enumerate(prompts)]
    for i in range(n_tokens - 1):
        rows = [(s, len(ids) + i, made[s][-1]) for s, ids in enumerate(prompts)]
        for tokens, token in zip(made, run.forward(rows).argmax(-1), strict=True):
            tokens.append(int(token))
    return made


def main(pairs: list[str]) -> None:
    made = {}
    for pair in pairs:
        golden, model_path = map(Path, pair.split("="))
        document = json.loads(golden.read_text())
        prompts = [run["prompt_token_ids"] for run in document["runs"]]
        with open_model(model_path, n_threads=default_threads()[0], residence="mapped") as model:
            made[golden.stem] = continuations(model.llama, prompts, document["n_tokens"])
    print(json.dumps({"sums": paths.sums(), "continuations": made}))


if __name__ == "__main__":
    main(sys.argv[1:])
