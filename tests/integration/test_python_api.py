"""`import llorch`, as a program uses it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import llorch
from llorch.errors import ContextLengthError, EngineStoppedError, InputError, RequestError, SettingsError
from tests.support.real_models import greedy_stop, greedy_text


@pytest.fixture(scope="module")
def model(real_model: Path) -> Iterator[llorch.Model]:
    with llorch.load(real_model, threads=2, ctx_size=512) as model:
        yield model


def test_generate_says_everything_about_its_text(model: llorch.Model, real_model: Path) -> None:
    result = model.generate("Once upon a time", max_tokens=20, temperature=0, seed=1)
    assert isinstance(result, llorch.Generation)
    assert result.text.startswith(greedy_text(real_model))
    assert result.prompt_token_ids == tuple(model.tokenizer.encode("Once upon a time"))
    assert len(result.token_ids) == 20
    assert (result.finish_reason, result.matched_stop, result.seed) == ("length", None, 1)
    assert result.timings.decode_tokens_per_s > 0


def test_stream_gives_the_same_text_in_pieces(model: llorch.Model) -> None:
    pieces = list(model.stream("Once upon a time", max_tokens=30, seed=5))
    assert "".join(pieces) == model.generate("Once upon a time", max_tokens=30, seed=5).text
    assert len(pieces) > 5
    assert all(pieces)


def test_stop_strings_and_token_ids(model: llorch.Model, real_model: Path) -> None:
    stop, before = greedy_stop(real_model)
    ids = model.tokenizer.encode("Once upon a time")
    result = model.generate(ids, temperature=0, stop=stop)
    assert (result.text, result.matched_stop) == (before, stop)


def test_a_stream_left_early_frees_its_slot(model: llorch.Model) -> None:
    for _ in range(10):  # more than there are slots
        next(model.stream("Once upon a time", max_tokens=200))
    assert model.generate("Once", max_tokens=1).token_ids


def test_threads_may_share_a_model(model: llorch.Model) -> None:
    prompts = [f"{name} was" for name in ("Lily", "Tom", "Ben", "Mia", "Sue", "Max")]
    expected = [model.generate(prompt, max_tokens=40, seed=3).text for prompt in prompts]
    found: dict[str, str] = {}

    def work(prompt: str) -> None:
        found[prompt] = "".join(model.stream(prompt, max_tokens=40, seed=3))

    threads = [threading.Thread(target=work, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[prompt] for prompt in prompts] == expected


def test_two_streams_of_one_thread_go_on_by_turns(model: llorch.Model) -> None:
    one = model.stream("Lily", max_tokens=20, seed=1)
    two = model.stream("Tom", max_tokens=20, seed=2)
    texts = ["", ""]
    for a, b in zip(one, two, strict=False):
        texts[0] += a
        texts[1] += b
    texts[0] += "".join(one)
    assert model.generate("Lily", max_tokens=20, seed=1).text.startswith(texts[0])
    assert model.generate("Tom", max_tokens=20, seed=2).text.startswith(texts[1])


def test_mistakes_are_named_when_the_call_is_made(model: llorch.Model) -> None:
    with pytest.raises(RequestError, match="temprature"):
        model.generate("Once", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(RequestError, match="top_p"):
        model.stream("Once", top_p=3)
    with pytest.raises(ContextLengthError):
        model.stream("Once " * 1000)
    with pytest.raises(InputError):
        model.generate("\ud800")


def test_a_closed_model_says_so(model_path: Callable[[str], Path]) -> None:
    with llorch.load(model_path("stories260K-q8_0.gguf"), ctx_size=64) as model:
        assert model.n_ctx == 64
        assert model.name == "stories260K"
        stream = model.stream("Once", max_tokens=30)
        next(stream)
    with pytest.raises(EngineStoppedError):
        list(stream)
    with pytest.raises(EngineStoppedError):
        model.generate("Once")
    model.close()


def test_load_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no model at"):
        llorch.load(tmp_path / "nothing.gguf")
    with pytest.raises(SettingsError, match=r"argument ctx_sice is not .*ctx_size"):
        llorch.load(tmp_path / "nothing.gguf", ctx_sice=3)


def test_importing_llorch_is_light() -> None:
    heavy = "{'numba', 'numpy', 'fastapi', 'pydantic', 'llvmlite'}"
    code = f"import sys, llorch; print(sorted({heavy} & set(sys.modules)), llorch.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["[]", llorch.__version__]


def test_public_names_are_there() -> None:
    for name in llorch.__all__:
        assert getattr(llorch, name) is not None
        assert name in dir(llorch)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = llorch.nothing
