"""From a path to a loaded model, and what refuses on the way."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch import model_files
from llorch.errors import InputError, ModelError
from llorch.model_files import open_tokenizer, resolve_model_path
from llorch.open_model import check_model, open_model
from tests.support.tiny_models import write_tiny_llama


def test_demo_is_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "DEMO_PATH", tmp_path / "demo.gguf")
    with pytest.raises(InputError, match="embedded model is missing"):
        resolve_model_path("demo")
    (tmp_path / "demo.gguf").touch()
    assert resolve_model_path("demo") == tmp_path / "demo.gguf"


@pytest.mark.parametrize("path", ["nothing.gguf", "a/b.gguf", "x" * 5000, "nul\0"])
def test_a_path_where_nothing_is_is_an_input_error(path: str) -> None:
    with pytest.raises(InputError, match="there is no model at"):
        resolve_model_path(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dmeo", "did you mean 'demo'"),
        ("SmolLM2", "did you mean 'smollm2'"),
        ("llama", "'demo' is the embedded model"),
    ],
)
def test_a_name_that_is_no_model_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        resolve_model_path(name)


def test_a_model_is_loaded_with_progress_and_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    seen: list[tuple[str, int, int]] = []
    model = open_model(path, n_threads=1, n_batch=8, progress=lambda *step: seen.append(step))
    try:
        assert (model.source.path, model.name, model.config.n_vocab) == (path, "tiny llama", 320)
        assert model.llama.n_batch == 8
        assert {what for what, _, _ in seen} <= {"kernels", "compiling", "loading"}
        assert all(0 <= done <= total for _, done, total in seen)
    finally:
        model.close()


@pytest.mark.parametrize(
    ("name", "shown"), [(None, "file"), (" \n", "file"), ("a\nb", "a b"), ("x" * 500, "x" * 128)]
)
def test_the_name_is_one_short_line(tmp_path: Path, name: str | None, shown: str) -> None:
    path = tmp_path / "file.gguf"
    write_tiny_llama(path, overrides={"general.name": name})
    model = open_model(path, n_threads=1)
    assert model.name == shown
    model.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"overrides": {"general.architecture": "gpt2"}}, "general.architecture"),
        ({"overrides": {"llama.embedding_length": 128}}, "token_embd.weight"),
        ({"overrides": {"tokenizer.ggml.scores": [0.0]}}, "tokenizer.ggml.scores"),
        ({"overrides": {"tokenizer.ggml.model": "t5"}}, "tokenizer.ggml.model"),
        ({"tensor_overrides": {"blk.0.ffn_up.weight": None}}, "blk.0.ffn_up.weight"),
        ({"tensor_overrides": {"output_norm.weight": np.full(64, np.nan)}}, "output_norm.weight"),
        ({"types": {"attn_q.weight": "MXFP4"}}, "MXFP4"),
    ],
)
def test_a_look_into_a_file_finds_what_opening_it_would(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_llama(path, **change)
    with pytest.raises(ModelError, match=said) as looked:
        check_model(path)
    with pytest.raises(ModelError) as opened:
        open_model(path, n_threads=1)
    assert str(looked.value) == str(opened.value)
    write_tiny_llama(path)
    check_model(path)


def test_a_failure_frees_what_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    before = threading.active_count()

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "loading":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_model(path, progress=interrupt)
    gc.collect()
    assert threading.active_count() == before
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(path) not in maps.read_text()


def test_the_tokenizer_of_a_vocabulary_file_alone(model_path: Callable[[str], Path]) -> None:
    tokenizer = open_tokenizer(model_path("ggml-vocab-llama-spm.gguf"))
    assert tokenizer.encode("Hello") == [1, 15043]
    with pytest.raises(ModelError):
        open_model(model_path("ggml-vocab-llama-spm.gguf"))
