"""Vocabularies for tokenizer tests: small ones made up, and the real ones of the test models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from llorch.text.vocab import TokenType
from tests.conftest import test_models_dir

SPECIAL = (("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL))
BYTES = tuple((f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256))


def spm_metadata(
    pieces: Iterable[str] = (),
    *,
    scores: Iterable[float] | None = None,
    special: Iterable[tuple[str, TokenType]] = (),
    has_bytes: bool = True,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Metadata of a SentencePiece vocabulary, as a GGUF file would give it.

    Args:
        pieces: normal tokens.
        scores: one per piece; by default the first piece has the highest.
        special: further tokens with their types, behind the pieces.
        has_bytes: include the 256 byte tokens.
        overrides: values by key without ``tokenizer.ggml.``; None removes the key.
    """
    pieces = list(pieces)
    first = SPECIAL + (BYTES if has_bytes else ())
    last = list(special)
    piece_scores = [-float(i) for i in range(len(pieces))] if scores is None else list(scores)
    tokens = [text for text, _ in first] + pieces + [text for text, _ in last]
    types = [kind for _, kind in first] + [TokenType.NORMAL] * len(pieces) + [kind for _, kind in last]
    values: dict[str, Any] = {
        "model": "llama",
        "tokens": [token.encode() for token in tokens],
        "scores": np.array([0.0] * len(first) + piece_scores + [0.0] * len(last), np.float32),
        "token_type": np.array(types, np.int32),
    }
    values |= overrides or {}
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def make_tokenizer(pieces: Iterable[str] = (), **options: Any) -> Tokenizer:
    """A tokenizer over `spm_metadata`."""
    return load_tokenizer(spm_metadata(pieces, **options))


@cache
def _load(path: Path) -> Tokenizer:
    return load_tokenizer(GGUFFile(path).metadata)


def real_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a test model; skips when it is not there."""
    path = test_models_dir() / name
    if not path.exists():
        pytest.skip(f"{name} is not among the test models in {test_models_dir()}")
    return _load(path)


def llama2_tokenizer() -> Tokenizer:
    """Llama 2: 32,000 tokens, byte fallback, no piece reaches across a space."""
    return real_tokenizer("ggml-vocab-llama-spm.gguf")
