"""A vocabulary that goes from GGUF to `tokenizer.json` and back has the same keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.formats.hugging_face.tokenizer import tokenizer_metadata
from llorch.text.tokenizer import load_tokenizer
from tools.hf_tokenizer_json import main, tokenizer_json_of

PREFIX = "tokenizer.ggml."


def vocabulary_keys(gguf: Path) -> dict[str, Any]:
    """The keys of a GGUF file that are about its vocabulary."""
    return {key: value for key, value in GGUFFile(gguf).metadata.items() if key.startswith("tokenizer.")}


def there_and_back(gguf: Path, directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of the file, and those of the directory that is made from it."""
    assert main([str(gguf), str(directory)]) == 0
    before = vocabulary_keys(gguf)
    return before, tokenizer_metadata(directory, len(before[PREFIX + "tokens"]), {})


def different(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Keys that both have, with different values."""
    return {
        key
        for key in before.keys() & after.keys()
        if not np.array_equal(np.asarray(before[key]), np.asarray(after[key]))
    }


def test_tinystories_keeps_all_keys(tmp_path: Path, model_path: Callable[[str], Path]) -> None:
    before, after = there_and_back(model_path("tinystories-656k-f32.gguf"), tmp_path)
    assert different(before, after) <= {PREFIX + "scores"}
    assert before.keys() <= after.keys()
    assert orders(before) == orders(after)


def test_the_directory_of_tinystories_has_the_keys_of_its_gguf_file(
    model_path: Callable[[str], Path],
) -> None:
    after = tokenizer_metadata(model_path("tinystories-656k"), 2048, {})
    before = vocabulary_keys(model_path("tinystories-656k-f32.gguf"))
    assert different(before, after) == set()
    assert after.keys() - before.keys() == {PREFIX + "padding_token_id"}


def test_llama_2s_sentencepiece_model_has_the_keys_of_its_gguf_file(
    tmp_path: Path, model_path: Callable[[str], Path]
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_path("tokenizer.model").read_bytes())
    after = tokenizer_metadata(tmp_path, 32000, {})
    before = vocabulary_keys(model_path("ggml-vocab-llama-spm.gguf"))
    assert different(before, after) == set()
    assert after.keys() - before.keys() == {PREFIX + "add_space_prefix"}


def orders(keys: dict[str, Any]) -> list[int]:
    """Tokens that merges make, best first; others have the lowest score, or none that counts."""
    scores, types = keys[PREFIX + "scores"], keys[PREFIX + "token_type"]
    lowest = scores[types == 1].min()
    chosen = np.flatnonzero((types == 1) & (scores > lowest))
    return [int(i) for i in chosen[np.argsort(-scores[chosen], kind="stable")]]


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-bpe.gguf"])
def test_llama_2_and_3_keep_all_keys_and_give_the_ids_of_llama_cpps_vectors(
    stem: str, tmp_path: Path, model_path: Callable[[str], Path]
) -> None:
    before, after = there_and_back(model_path(stem), tmp_path)
    assert different(before, after) <= {PREFIX + "scores"}
    assert before.keys() <= after.keys()
    tokenizer = load_tokenizer(after)
    texts = model_path(f"{stem}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = model_path(f"{stem}.out").read_text().split("\n")
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.encode(text, add_bos=False) == [int(word) for word in line.split()], text


@pytest.mark.smollm2
def test_smollm2_keeps_all_keys(tmp_path: Path, smollm2: Path) -> None:
    before, after = there_and_back(smollm2, tmp_path)
    assert different(before, after) == set()
    assert before.keys() <= after.keys()


def test_merges_are_written_as_text_or_as_pairs(model_path: Callable[[str], Path]) -> None:
    gguf = model_path("tinystories-656k-f32.gguf")
    as_text = tokenizer_json_of(gguf)["model"]["merges"]
    as_pairs = tokenizer_json_of(gguf, merge_pairs=True)["model"]["merges"]
    assert [" ".join(pair) for pair in as_pairs] == as_text
    assert json.dumps(as_pairs[0]) == '["e", "\\u2581"]'
