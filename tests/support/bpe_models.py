"""Complete models with a byte-level BPE vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llorch.text.vocab import TokenType
from tests.support.tiny_models import write_tiny_llama
from tests.support.vocabularies import bpe_metadata


def write_bpe_llama(
    path: Path, special: Iterable[tuple[str, TokenType]], merges: Iterable[str] = ("a b",), **overrides: Any
) -> None:
    """Write a tiny model of random weights with the vocabulary of `bpe_metadata`.

    Args:
        path: file to write.
        special: tokens behind those of text; the first is BOS and EOS.
        merges: pairs with a space between, best first.
        overrides: values by key without ``tokenizer.ggml.``; None removes the key.
    """
    keys = bpe_metadata(merges, special=special)
    keys |= {f"tokenizer.ggml.{name}": value for name, value in overrides.items()}
    keys["tokenizer.ggml.token_type"] = keys["tokenizer.ggml.token_type"].tolist()
    n_vocab = len(keys["tokenizer.ggml.tokens"])
    absent = {"tokenizer.ggml.scores": None, "tokenizer.ggml.add_bos_token": None}
    write_tiny_llama(path, n_vocab=n_vocab, overrides=absent | keys)
