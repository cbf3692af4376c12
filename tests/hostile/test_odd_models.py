"""Models that are odd but usable: they compute what the plain model computes, with one warning for each file."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llorch
from llorch.cli.main import main
from llorch.errors import ModelError
from llorch.model.config import ModelConfig
from llorch.model_files import open_tokenizer
from llorch.open_model import check_model, open_model
from tests.support.commands import llorch as llorch_command
from tests.support.odd_models import N_LAYER, N_VOCAB, ODD_MODELS, OddModel
from tests.support.small_models import Run
from tests.support.tiny_models import spm_vocabulary, tiny_metadata, write_tiny_llama

TEXT = "Hello the world"
EACH = pytest.mark.parametrize("odd", ODD_MODELS.values(), ids=ODD_MODELS)
LAYER_KEYS = {
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.feed_forward_length": 96,
}
SIZES: dict[str, Any] = {
    "n_vocab": N_VOCAB, "n_layer": N_LAYER, "n_embd": 64, "n_head": 4, "n_head_kv": 2, "n_ff": 96,
}  # fmt: skip


def write(path: Path, overrides: dict[str, Any]) -> Path:
    write_tiny_llama(path, n_layer=N_LAYER, overrides=overrides)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("plain") / "plain.gguf", {})


def metadata(**overrides: Any) -> dict[str, Any]:
    """What the file of a tiny model says, some keys replaced; arrays are NumPy arrays."""
    usual = {key: value for key, (_, value) in tiny_metadata(**SIZES, n_ctx_train=128).items()}
    return usual | {"general.architecture": "llama"} | overrides


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_plain_model_is_opened_without_a_warning(plain: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_model(plain, n_threads=1).close()
    open_tokenizer(plain)
    assert warnings(caplog) == []


@EACH
def test_an_odd_model_computes_what_the_plain_one_computes_with_one_warning(
    tmp_path: Path, plain: Path, caplog: pytest.LogCaptureFixture, odd: OddModel
) -> None:
    path = write(tmp_path / "odd.gguf", odd.overrides)
    with open_model(path, n_threads=1) as model, open_model(plain, n_threads=1) as usual:
        assert model.config == usual.config
        token_ids = model.tokenizer.encode(TEXT)
        assert token_ids == usual.tokenizer.encode(TEXT)
        assert model.tokenizer.vocab.eog_ids == usual.tokenizer.vocab.eog_ids
        logits = Run(model.llama).prefill(token_ids)
        np.testing.assert_array_equal(logits, Run(usual.llama).prefill(token_ids))
    (warning,) = warnings(caplog)
    assert warning.startswith(f"{path}: odd, but usable: ")
    assert all(part in warning for part in odd.said)
    assert warning.isprintable()


def test_all_that_is_odd_stands_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = [model for name, model in ODD_MODELS.items() if name != "an unused id that is none"]
    overrides = {key: value for model in odd for key, value in model.overrides.items()}
    path = write(tmp_path / "odd.gguf", overrides)
    check_model(path)
    assert warnings(caplog) == [], "who only looks says nothing"
    with llorch.load(path, threads=1) as model:
        model.generate("Hello", max_tokens=1)
    (warning,) = warnings(caplog)
    n_clauses = len(overrides)
    assert warning.count("; ") == n_clauses - 1


def test_the_tokenizer_alone_warns_of_the_vocabulary(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ODD_MODELS["add_bos_token as an integer"]
    path = write(tmp_path / "odd.gguf", odd.overrides | ODD_MODELS["a vocab_size of nothing"].overrides)
    open_tokenizer(path)
    assert warnings(caplog) == [f"{path}: odd, but usable: tokenizer.ggml.{odd.said[0]}"]


@pytest.mark.parametrize("words", [["tokenize", TEXT], ["generate", TEXT, "-n", "1", "--temperature", "0"]])
def test_a_command_writes_the_warning_on_stderr_and_json_on_stdout(tmp_path: Path, words: list[str]) -> None:
    path = write(tmp_path / "odd.gguf", ODD_MODELS["an id outside the vocabulary"].overrides)
    done = llorch_command(*words, "-m", str(path), "--json")
    assert done.returncode == 0
    assert "token_ids" in json.loads(done.stdout)
    (line,) = [line for line in done.stderr.splitlines() if "odd, but usable" in line]
    assert "bos_token_id 320" in line
    assert "eos_token_id 2147483648" in line


def test_inspect_lists_what_is_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str], plain: Path) -> None:
    stale, integer = ODD_MODELS["a vocab_size of one more"], ODD_MODELS["add_bos_token as an integer"]
    path = write(tmp_path / "odd.gguf", stale.overrides | integer.overrides)
    assert main(["inspect", "-m", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problem"] is None
    assert [stale.said[0] in found["warnings"][0], integer.said[0] in found["warnings"][1]] == [True, True]
    assert main(["inspect", "-m", str(path)]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {warning}\n" in text for warning in found["warnings"])
    assert main(["inspect", "-m", str(plain), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


@pytest.mark.parametrize("key", LAYER_KEYS)
@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"])
def test_an_array_of_equal_whole_numbers_is_one_number(key: str, kind: str) -> None:
    oddities: list[str] = []
    found = ModelConfig.from_metadata(
        metadata(**{key: np.full(N_LAYER, LAYER_KEYS[key], np.dtype(kind))}), oddities
    )
    assert found == ModelConfig.from_metadata(metadata())
    assert oddities == [f"{key} is an array with {LAYER_KEYS[key]} for each of {N_LAYER} layers"]


@pytest.mark.parametrize("key", LAYER_KEYS)
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([2, 1]), "1 in layer 1, but 2 in layer 0; layers of different sizes are not supported"),
        (np.array([2]), "got 1 values for the 2 layers of llama.block_count"),
        (np.array([2, 2, 2]), "got 3 values for the 2 layers of llama.block_count"),
        (np.zeros(0, np.int32), "got 0 values"),
        (np.array([2.0, 2.0], np.float32), "expected whole numbers"),
        (np.array([True, True]), "expected whole numbers"),
        (np.array([0, 0]), "0 is out of range"),
        (np.array([-1, -1]), "-1 is out of range"),
        (np.full(2, 2**64 - 1, np.uint64), "18446744073709551615 is out of range"),
        ([b"2", b"2"], "one number expected, got an array (not supported)"),
    ],
    ids=repr,
)
def test_any_other_array_is_refused(key: str, values: object, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_metadata(metadata(**{key: values}))
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert said in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "key",
    ["llama.block_count", "llama.embedding_length", "llama.context_length", "llama.rope.dimension_count",
     "llama.attention.key_length", "llama.attention.value_length", "llama.vocab_size"],
)  # fmt: skip
def test_a_size_of_the_whole_model_is_no_array(key: str) -> None:
    with pytest.raises(ModelError, match=rf"^{key}: one number expected, got an array"):
        ModelConfig.from_metadata(metadata(**{key: np.array([16, 16])}))


@pytest.mark.parametrize("value", ["320", True, 320.0, None, np.zeros(2000)], ids=repr)
def test_a_vocab_size_that_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match=r"^llama\.vocab_size: ") as caught:
        ModelConfig.from_metadata(metadata(**{"llama.vocab_size": value}))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("stated", [320, 300, 7, None])
def test_tokens_that_are_not_as_many_as_the_rows_are_refused_with_all_numbers(
    tmp_path: Path, stated: int | None
) -> None:
    tokens, scores, types = (values[:300] for values in spm_vocabulary(N_VOCAB))
    path = write(
        tmp_path / "bad.gguf",
        {
            "llama.vocab_size": stated,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": scores,
            "tokenizer.ggml.token_type": types,
        },
    )
    with pytest.raises(ModelError) as caught:
        check_model(path)
    assert str(caught.value) == (
        "tokenizer.ggml.tokens has 300 entries, but token_embd.weight has 320 rows, one for each token "
        f"(llama.vocab_size: {stated or 'absent'})"
    )


def test_an_output_matrix_of_other_rows_than_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    write_tiny_llama(path, tensor_overrides={"output.weight": np.zeros((322, 64), np.float32)})
    with pytest.raises(ModelError, match=r"tokens has 320 entries, but output\.weight has 322 rows"):
        check_model(path)


@pytest.mark.reference
@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed")
def test_llama_cpp_runs_these_files_and_reads_the_same_tokens(tmp_path: Path, plain: Path) -> None:
    from tools.reference.ggml_tensor import ReferenceToolError
    from tools.reference.llama_cpp_eval import LlamaCppModel

    with LlamaCppModel(plain, 64) as usual:
        expected = usual.tokenize(TEXT)
    assert open_tokenizer(plain).encode(TEXT) == expected
    for name, odd in ODD_MODELS.items():
        path = write(tmp_path / "odd.gguf", odd.overrides)
        if not odd.runs_in_llama_cpp:
            with pytest.raises(ReferenceToolError):
                LlamaCppModel(path, 64)
            continue
        with LlamaCppModel(path, 64) as model:
            assert model.tokenize(TEXT) == expected, name
