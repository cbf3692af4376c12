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


BYTE_CHARACTERS = "".join(
    chr(byte)
    if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
    else chr(0x100 + [*range(0x21), *range(0x7F, 0xA1), 0xAD].index(byte))
    for byte in range(256)
)
"""How byte-level BPE spells each byte."""


def bpe_metadata(
    merges: Iterable[str] = (),
    *,
    pre: str | None = "gpt-2",
    special: Iterable[tuple[str, TokenType]] = (("<eos>", TokenType.CONTROL),),
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Metadata of a byte-level BPE vocabulary: 256 characters by byte, what the merges make, special tokens.

    Args:
        merges: pairs with a space between, best first.
        pre: name of the pre-tokenizer.
        special: further tokens with their types; the first is BOS and EOS.
        overrides: values by key without ``tokenizer.ggml.``; None removes the key.
    """
    merges, special = list(merges), list(special)
    made = list(dict.fromkeys(merge.replace(" ", "") for merge in merges))
    tokens = [*BYTE_CHARACTERS, *made, *(text for text, _ in special)]
    n_text = len(BYTE_CHARACTERS) + len(made)
    values: dict[str, Any] = {
        "model": "gpt2",
        "pre": pre,
        "tokens": [token.encode() for token in tokens],
        "token_type": np.array([TokenType.NORMAL] * n_text + [kind for _, kind in special], np.int32),
        "merges": [merge.encode() for merge in merges],
        "bos_token_id": n_text,
        "eos_token_id": n_text,
    }
    values |= overrides or {}
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def make_bpe(merges: Iterable[str] = (), **options: Any) -> Tokenizer:
    """A tokenizer over `bpe_metadata`."""
    return load_tokenizer(bpe_metadata(merges, **options))


@cache
def _load(path: Path) -> Tokenizer:
    return load_tokenizer(GGUFFile(path).metadata)


def real_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a test model; skips when it is not there."""
    path = test_models_dir() / name
    if not path.exists():
        pytest.skip(f"{name} is not among the test models in {test_models_dir()}")
    return _load(path)


def llama3_tokenizer() -> Tokenizer:
    """Llama 3: 128,256 tokens, 280,147 merges."""
    return real_tokenizer("ggml-vocab-llama-bpe.gguf")


def llama_cpp_vectors(models_dir: Path, name: str) -> list[tuple[str, list[int]]]:
    """Texts and ids that come with a vocabulary of llama.cpp."""
    texts = (models_dir / f"{name}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = (models_dir / f"{name}.out").read_text().split("\n")
    return [
        (text, [int(token_id) for token_id in line.split()]) for text, line in zip(texts, lines, strict=True)
    ]


def llama2_tokenizer() -> Tokenizer:
    """Llama 2: 32,000 tokens, byte fallback, no piece reaches across a space."""
    return real_tokenizer("ggml-vocab-llama-spm.gguf")
