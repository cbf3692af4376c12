"""`Model.embed`: the normed output of the last layer, with the same bits however it is computed; and llama.cpp's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llorch
from llorch.conversation import Conversation
from llorch.errors import ContextLengthError, EngineStoppedError, RequestError
from llorch.observe.probe import Recorder

TEXT = "Once upon a time there was a little girl named Lily. She had a red ball."


def test_a_vector_is_the_mean_of_the_normed_rows_with_length_one(real_model: Path) -> None:
    with llorch.load(real_model, threads=1, ctx_size=512) as model:
        vector = model.embed(TEXT)
        seen = Recorder(frozenset({"result_norm"}))
        ids = model.tokenizer.encode(TEXT)
        Conversation(model._loaded.llama, 64, kv_type="f16").feed(ids, all_rows=True, probe=seen)
        rows = seen.values["result_norm"]
        assert rows.shape == (len(ids), len(vector))
        assert vector.dtype == np.float32
        for found, expected in ((vector, rows.mean(axis=0)), (model.embed(ids, pooling="last"), rows[-1])):
            np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=2e-6)
            assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)


def test_its_bits_depend_neither_on_threads_nor_on_batches_nor_on_company(real_model: Path) -> None:
    vectors = []
    ways: list[dict[str, Any]] = [{"threads": 1}, {"threads": 2}, {"threads": 1, "batch_size": 5}]
    for settings in ways:
        with llorch.load(real_model, ctx_size=512, **settings) as model:
            stream = model.stream("Lily", max_tokens=30, seed=1)
            before = next(stream)
            vectors.append(model.embed(TEXT))
            rest = "".join(stream)
            assert before + rest == model.generate("Lily", max_tokens=30, seed=1).text
    assert len({vector.tobytes() for vector in vectors}) == 1


@pytest.mark.parametrize(
    ("text", "options", "fault"),
    [
        (5, {}, "prompt"),
        ([], {}, "at least one token"),
        ([1 << 30], {}, "token_ids"),
        ("a", {"pooling": "max"}, 'pooling: expected "mean" or "last"'),
        ("a", {"pooling": None}, "got null"),
    ],
)
def test_what_cannot_be_embedded_is_named(
    tiny_model: Path, text: Any, options: dict[str, Any], fault: str
) -> None:
    with llorch.load(tiny_model, threads=1, ctx_size=64) as model, pytest.raises(RequestError, match=fault):
        model.embed(text, **options)


def test_a_text_that_is_too_long_and_a_closed_model_say_so(tiny_model: Path) -> None:
    with llorch.load(tiny_model, threads=1, ctx_size=64) as model, pytest.raises(ContextLengthError):
        model.embed([5] * 65)
    with pytest.raises(EngineStoppedError, match="closed"):
        model.embed("a")


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed")
@pytest.mark.parametrize(("pooling", "number"), [("mean", 1), ("last", 3)])
def test_llama_cpp_has_the_same_vectors(pooling: Any, number: int, model_path: Callable[[str], Path]) -> None:
    from llama_cpp import Llama

    path = model_path("stories260K-f32.gguf")
    other = Llama(str(path), embedding=True, n_ctx=128, n_threads=1, pooling_type=number, verbose=False)
    theirs = np.array(other.create_embedding(TEXT)["data"][0]["embedding"])
    with llorch.load(path, threads=1) as model:
        assert model.embed(TEXT, pooling=pooling) @ theirs / np.linalg.norm(theirs) > 1 - 1e-5
