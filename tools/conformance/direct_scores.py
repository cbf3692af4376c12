"""Log-likelihoods that llorch's Python interface computes, for comparison with what a harness got over HTTP.

    python -m tools.conformance.direct_scores MODEL.gguf < asked.json

`asked.json` has ``pairs`` of a context and its continuation, and ``texts`` that are scored as wholes, behind the token
that texts begin with. The same tokens are summed in the same order as the harness does, in float64.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import llorch


def log_likelihood(model: llorch.Model, ids: Sequence[int], n_context: int) -> tuple[float, bool]:
    """Of the tokens behind the first `n_context`: the sum of their logarithms, and whether each is the likeliest."""
    scored = [entry for entry in model.logprobs(ids, n_top=1)[n_context:] if entry is not None]
    is_greedy = all(entry.logprob == entry.top[0][1] for entry in scored)
    return sum(entry.logprob for entry in scored), is_greedy


def scores(model: llorch.Model, asked: dict[str, Any]) -> dict[str, Any]:
    """``pairs``: log-likelihood and greediness of each continuation; ``texts``: log-likelihood of each text."""

    def ids_of(text: str) -> list[int]:
        return model.tokenizer.encode(text, add_bos=False)

    vocab = model.tokenizer.vocab
    first = vocab.eos_id if vocab.bos_id is None else vocab.bos_id
    assert first is not None
    pairs = []
    for context, continuation in asked["pairs"]:
        spaces = context[len(context.rstrip()) :]
        context, continuation = context.rstrip(), spaces + continuation
        whole = ids_of(context + continuation)
        pairs.append(log_likelihood(model, whole, len(ids_of(context))))
    texts = [log_likelihood(model, [first, *ids_of(text)], 1)[0] for text in asked["texts"]]
    return {"pairs": pairs, "texts": texts}


if __name__ == "__main__":
    with llorch.load(sys.argv[1]) as loaded:
        print(json.dumps(scores(loaded, json.load(sys.stdin))))
