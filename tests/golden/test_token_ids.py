"""Vocabularies of Hugging Face directories give the ids that `tokenizers` and `sentencepiece` give.

The ids are stored, so that no package is needed; `tools/reference/extract_token_ids.py` makes them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llorch.formats.hugging_face.tokenizer import tokenizer_metadata
from llorch.text.tokenizer import Tokenizer, load_tokenizer
from tools.hf_tokenizer_json import tokenizer_config_of, tokenizer_json_of

FOLDER = Path(__file__).parent / "token_ids"
SMALL = json.loads((FOLDER / "small.json").read_text())
MODELS = json.loads((FOLDER / "models.json").read_text())


def encoded(tokenizer: Tokenizer, text: str, *, is_sentencepiece: bool) -> list[int]:
    """Ids of a text; `tokenizers` finds special tokens in it, `sentencepiece` does not."""
    return tokenizer.encode(text, parse_special=not is_sentencepiece)


@pytest.mark.parametrize("name", SMALL["vocabularies"])
def test_a_small_vocabulary_of_each_kind_gives_the_stored_ids(name: str, tmp_path: Path) -> None:
    case: Any = SMALL["vocabularies"][name]
    is_sentencepiece = "tokenizer.model" in case
    if is_sentencepiece:
        (tmp_path / "tokenizer.model").write_bytes(base64.b64decode(case["tokenizer.model"]))
    else:
        (tmp_path / "tokenizer.json").write_text(json.dumps(case["tokenizer.json"]))
    tokenizer = load_tokenizer(tokenizer_metadata(tmp_path, case["n_vocab"], {}))
    for text, ids in zip(SMALL["texts"], case["ids"], strict=True):
        if name == "spaces-metaspace" and (text[:1] in (" ", "▁") or "s>" in text):
            continue  # GGUF has no word for a prefix that some texts go without
        assert encoded(tokenizer, text, is_sentencepiece=is_sentencepiece) == ids, text


def ids_of_lines(tokenizer: Tokenizer, path: Path, *, is_sentencepiece: bool) -> str:
    lines = [line for line in path.read_bytes().decode().split("\n") if line.strip()][::16]
    ids = [encoded(tokenizer, line, is_sentencepiece=is_sentencepiece) for line in lines]
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()


def check_real(name: str, directory: Path, n_vocab: int, wiki: Path) -> None:
    """Compare the ids of all texts, and of every 16th line of WikiText."""
    tokenizer = load_tokenizer(tokenizer_metadata(directory, n_vocab, {}))
    case, is_sentencepiece = MODELS["vocabularies"][name], name == "tokenizer.model"
    for text, ids in zip(MODELS["texts"], case["ids"], strict=True):
        assert encoded(tokenizer, text, is_sentencepiece=is_sentencepiece) == ids, text
    assert ids_of_lines(tokenizer, wiki, is_sentencepiece=is_sentencepiece) == case["wiki_sha256"]


def write_tokenizer(directory: Path, gguf: Path) -> None:
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json_of(gguf)))
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_config_of(gguf)))


def test_tinystories_gives_the_stored_ids(model_path: Callable[[str], Path]) -> None:
    check_real("tinystories-656k", model_path("tinystories-656k"), 2048, model_path("wiki.test.raw"))


def test_llama_2s_tokenizer_model_gives_the_stored_ids(
    tmp_path: Path, model_path: Callable[[str], Path]
) -> None:
    name = "tokenizer.model"
    (tmp_path / name).write_bytes(model_path(name).read_bytes())
    check_real(name, tmp_path, 32000, model_path("wiki.test.raw"))


@pytest.mark.smollm2
def test_smollm2_gives_the_stored_ids(
    tmp_path: Path, smollm2: Path, model_path: Callable[[str], Path]
) -> None:
    write_tokenizer(tmp_path, smollm2)
    check_real("SmolLM2", tmp_path, 49152, model_path("wiki.test.raw"))


@pytest.mark.slow
def test_llama_3_gives_the_stored_ids(tmp_path: Path, model_path: Callable[[str], Path]) -> None:
    write_tokenizer(tmp_path, model_path("ggml-vocab-llama-bpe.gguf"))
    check_real("Llama 3", tmp_path, 128256, model_path("wiki.test.raw"))
