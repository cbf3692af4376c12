"""Byte-level BPE against `tokenizers`, built from the same tokens and merges, on WikiText."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.slow

_END = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _END
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _END
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The patterns as the models' own `tokenizer.json` have them."""


def reference(path: Path, patterns: tuple[str, ...], *, ignore_merges: bool) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    metadata: Any = GGUFFile(path).metadata
    vocabulary = {token.decode(): i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.decode().split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    bpe = tokenizers.models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges)
    tokenizer = tokenizers.Tokenizer(bpe)
    cuts = [tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated") for pattern in patterns]
    as_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([*cuts, as_bytes])
    return tokenizer


@pytest.mark.parametrize(
    ("name", "patterns", "ignore_merges"),
    [
        ("llama-bpe", (LLAMA3,), True),
        ("smaug-bpe", (LLAMA3,), False),
        ("smollm", (r"\p{N}", GPT2), False),
        ("gpt-2", (GPT2,), False),
        ("tekken", (TEKKEN,), True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ids_are_the_same_on_the_whole_wikitext_test_file(
    name: str, patterns: tuple[str, ...], ignore_merges: bool, model_path: Callable[[str], Path]
) -> None:
    path = model_path("ggml-vocab-llama-bpe.gguf")
    text = model_path("wiki.test.raw").read_bytes().decode()
    tokenizer = load_tokenizer(GGUFFile(path).metadata, override_pre=name)
    expected = reference(path, patterns, ignore_merges=ignore_merges)
    token_ids = tokenizer.encode(text, add_bos=False)
    assert token_ids == expected.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(token_ids) == text


def test_smollm2_gives_the_same_ids(smollm2: Path, model_path: Callable[[str], Path]) -> None:
    text = model_path("wiki.test.raw").read_bytes().decode()
    expected = reference(smollm2, (r"\p{N}", GPT2), ignore_merges=False)
    token_ids = load_tokenizer(GGUFFile(smollm2).metadata).encode(text)
    assert token_ids == expected.encode(text, add_special_tokens=False).ids
