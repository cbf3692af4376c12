#!/usr/bin/env python3
"""Write llama.cpp's greedy continuations of fixed prompts as golden files for the tests.

    python -m tools.reference.extract_greedy -m MODEL.gguf [-m ...] -o tests/golden/greedy [-n 200]

One JSON per model, named after the model's file. Every prompt is read in one pass, then one token at a time
goes through llama_decode. Generation does not stop at an end-of-sequence token, so that all continuations
have the same length; where such tokens were produced is recorded. `margins` holds, per generated token, the
distance between the best and the second-best logit: where it is tiny, another correct engine may differ.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tools.reference.ggml_tensor import ReferenceToolError
from tools.reference.llama_cpp_eval import LlamaCppModel, sha256_file

SCHEMA = "llorch-greedy/1"

PROMPTS = {
    "empty": "",
    "opening": "Once upon a time",
    "one_letter": "A",
    "characters": "Lily and Tom went to the park. They saw a big dog",
    "sentence": "One day, a little girl named Lucy found a needle in her room. She knew it was hard to play",
    "dialogue": '"Can I have the red ball?" asked Ben. Mom smiled and said, "',
    "line_breaks": "The sun was hot.\n\nThe little bird",
    "digits": "At 7:30, 3 cats - and 2 dogs - ate 15 fish! Is it",
    "repetition": "no no no no no no no no",
    "capitals": "THE BIG BAD WOLF",
    "spaces": "  The old   man had a   ",
    "long": (
        "There was a boy named Max who lived in a small house near the sea. Every morning he walked along "
        "the sand with his dog and looked for shells. One morning he saw something shiny under a rock. It "
        "was a golden key! Max ran home to show his grandmother. She put on her glasses, looked at the "
        "key for a long time and said that it opened a box in the attic. They climbed the stairs "
        "together, and there in the dust they found"
    ),
    "unicode": "Zoë’s naïve café — 猫 🙂 ran to the",
}


def extract(
    path: Path, n_tokens: int, build_flags: str | None, prompts: Mapping[str, str] = PROMPTS
) -> dict[str, Any]:
    """Run every prompt that the vocabulary can spell through one model.

    Raises:
        ReferenceToolError: prompt and continuation exceed the context the model was trained for.
    """
    with LlamaCppModel(path, n_ctx=512) as model:
        n_ctx_train = int(model.metadata("llama.context_length") or 0)
        runs, skipped = [], {}
        for name, text in prompts.items():
            if missing := model.unencodable(text):
                skipped[name] = f"the vocabulary has neither tokens for {' '.join(missing)} nor byte tokens"
                continue
            prompt_ids = model.tokenize(text)
            if not prompt_ids:
                skipped[name] = "it has no tokens, not even one for the beginning"
                continue
            if len(prompt_ids) + n_tokens > min(model.n_ctx, n_ctx_train):
                raise ReferenceToolError(
                    f"{path.name}: prompt {name!r} has {len(prompt_ids)} tokens; 1 to "
                    f"{min(model.n_ctx, n_ctx_train) - n_tokens} leave room for {n_tokens} more"
                )
            model.reset()
            token_ids: list[int] = []
            margins: list[float] = []
            logits = model.decode(prompt_ids, 0, all_rows=False)[0]
            while True:
                second, best = np.partition(logits, -2)[-2:]
                token_ids.append(int(np.argmax(logits)))
                margins.append(float(f"{float(best) - float(second):.4g}"))
                if len(token_ids) == n_tokens:
                    break
                logits = model.decode(token_ids[-1:], len(prompt_ids) + len(token_ids) - 1, all_rows=False)[0]
            runs.append(
                {
                    "name": name,
                    "prompt": text,
                    "prompt_token_ids": prompt_ids,
                    "token_ids": token_ids,
                    "margins": margins,
                    "end_of_sequence_at": [i for i, t in enumerate(token_ids) if model.is_end(t)],
                }
            )
        return {
            "schema": SCHEMA,
            "generated_by": "tools/reference/extract_greedy.py; do not edit",
            "model": {"file": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size},
            "reference": model.identity(build_flags),
            "settings": {**model.settings(), "n_ctx_train": n_ctx_train, "stop_at_end_of_sequence": False},
            "n_tokens": n_tokens,
            "skipped": skipped,
            "runs": runs,
        }


def to_json(document: dict[str, Any]) -> str:
    """JSON with one line per list of numbers, so that a diff shows which run changed."""
    runs = [
        "  {\n"
        + ",\n".join(f"   {json.dumps(k)}: {json.dumps(v, ensure_ascii=True)}" for k, v in r.items())
        + "\n  }"
        for r in document["runs"]
    ]
    head = json.dumps({k: v for k, v in document.items() if k != "runs"}, indent=1)
    return head.removesuffix("\n}") + ',\n "runs": [\n' + ",\n".join(runs) + "\n ]\n}\n"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-m", "--model", action="append", required=True, type=Path, help="GGUF file (repeatable)"
    )
    parser.add_argument("-o", "--out", required=True, type=Path, help="folder of the golden files")
    parser.add_argument("-n", "--n-tokens", type=int, default=200, help="tokens per prompt (default 200)")
    parser.add_argument("--build-flags", help="how the llama.cpp library was built, to be recorded")
    args = parser.parse_args(argv)
    if args.n_tokens < 1:
        parser.error("--n-tokens must be at least 1")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for path in args.model:
            document = extract(path, args.n_tokens, args.build_flags)
            target = args.out / f"{path.stem}.json"
            partial = target.with_suffix(".json.partial")
            partial.write_text(to_json(document), encoding="utf-8")
            os.replace(partial, target)
            print(f"{target}: {len(document['runs'])} prompts x {args.n_tokens} tokens")
    except (ReferenceToolError, OSError) as error:
        print(f"extract_greedy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
