"""Which file of a directory the vocabulary is read from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import ModelError
from tests.support.directory_vocabularies import changed, read, small_model

BYTES = changed("bytes")
TIKTOKEN = b"IQ== 0\nIg== 1\nIw== 2\n"


def model_of(directory: Path, **files: Any) -> str:
    return str(read(directory, **files)["tokenizer.ggml.model"])


def test_a_directory_without_a_vocabulary_has_no_keys(tmp_path: Path) -> None:
    assert read(tmp_path, tokenizer_config_json={"bos_token": "<s>"}, chat_template_jinja="x") == {}


def test_a_sentencepiece_model_comes_before_tokenizer_json(tmp_path: Path) -> None:
    assert model_of(tmp_path, tokenizer_json=BYTES) == "gpt2"
    assert model_of(tmp_path, tokenizer_json=BYTES, tokenizer_model=small_model()) == "llama"


def test_a_list_of_tiktoken_counts_for_nothing_beside_tokenizer_json(tmp_path: Path) -> None:
    assert model_of(tmp_path, tokenizer_json=BYTES, tokenizer_model=TIKTOKEN) == "gpt2"


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.model", TIKTOKEN), ("vocab.json", b"{}"), ("tekken.json", b"{}"), ("spiece.model", b"")],
)
def test_a_vocabulary_of_another_kind_is_refused_with_what_makes_it_readable(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: is a vocabulary that llorch does not read") as caught:
        read(tmp_path)
    assert "AutoTokenizer.from_pretrained('DIR').save_pretrained('DIR')" in str(caught.value)


def test_files_may_be_links_as_the_hubs_cache_has_them_but_not_lead_elsewhere(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "model" / "snapshots" / "abc", tmp_path / "model" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_bytes(small_model())
    (snapshot / "tokenizer.model").symlink_to(os.path.relpath(blobs / "1", snapshot))
    assert model_of(snapshot) == "llama"
    (tmp_path / "secret").write_text("x")
    (snapshot / "tokenizer_config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"a link to .*secret outside its directory"):
        read(snapshot)


def test_the_embedding_may_not_have_rows_beyond_any_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the embedding has 8388608 rows; vocabularies may have 4194304"):
        read(tmp_path, 1 << 23, tokenizer_json=BYTES)
