"""A model that one token, and no other, makes compute infinities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.tiny_models import write_tiny_llama


def write_model_with_poison(path: Path, poison: int) -> None:
    """A model of finite weights in which the token `poison`, and no other, has infinite values in its V rows.

    Component 0 of the residual stream belongs to that token alone, and `attn_v` overflows when it sees it.
    """
    n_vocab, n_embd = 320, 64
    rng = np.random.default_rng(1)
    embedding = rng.standard_normal((n_vocab, n_embd)).astype(np.float32)
    embedding[:, 0] = 0
    embedding[poison] = np.eye(1, n_embd)
    value, output, down = (
        (rng.standard_normal(shape) / 8).astype(np.float32)
        for shape in ((32, n_embd), (n_embd, 64), (n_embd, 96))
    )
    value[:, 0] = 1e38
    output[0] = down[0] = 0
    write_tiny_llama(
        path,
        n_vocab=n_vocab,
        n_embd=n_embd,
        type="F32",
        tensor_overrides={
            "token_embd.weight": embedding,
            "blk.0.attn_v.weight": value,
            "blk.0.attn_output.weight": output,
            "blk.0.ffn_down.weight": down,
        },
    )
