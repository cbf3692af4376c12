"""llama.cpp and files of `llorch convert`: it runs them, and its own converter makes the same ones.

`LLORCH_TEST_LLAMA_CPP` names a folder of llama.cpp's sources, whose converter is run if PyTorch is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.formats.gguf.file import GGUFFile
from llorch.model_files import open_tokenizer
from tests.support.converted import OF_SENTENCEPIECE, OF_TOKENIZER_JSON, convert, differences, unexplained
from tests.support.hf_directories import write_directory
from tests.support.logits import F32_TOLERANCE, token_ids_of, worst
from tests.support.small_models import Run, open_model
from tools.make_hf_directory import make_directory
from tools.oracles.llama_cpp_converter import IN_F32, described, run_converter, write_case
from tools.reference.llama_cpp_eval import LlamaCppModel

SOURCES = os.environ.get("LLORCH_TEST_LLAMA_CPP")
N_GREEDY = 48

ModelPath = Callable[[str], Path]

pytestmark = [pytest.mark.slow, pytest.mark.reference, pytest.mark.timeout(900)]
runs_models = pytest.mark.skipif(
    not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"
)
runs_converter = pytest.mark.skipif(
    not SOURCES or not importlib.util.find_spec("torch") or not importlib.util.find_spec("transformers"),
    reason="LLORCH_TEST_LLAMA_CPP names no sources of llama.cpp, or its converter's packages are not installed",
)
every_type = pytest.mark.parametrize("wanted", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])


@pytest.fixture(scope="module")
def smollm2_directory(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "SmolLM2-135M-Instruct"
    with GGUFFile(smollm2) as source:
        make_directory(source, directory)
    return directory


def greedy(path: Path, prompt: str) -> tuple[list[int], list[int]]:
    """The ids of a prompt, and those that llama.cpp goes on with."""
    with LlamaCppModel(path, 256) as model:
        token_ids = model.tokenize(prompt)
        logits = model.decode(token_ids, 0, all_rows=False)
        made: list[int] = []
        while len(made) < N_GREEDY:
            made.append(int(logits[-1].argmax()))
            logits = model.decode(made[-1:], len(token_ids) + len(made) - 1, all_rows=False)
    return token_ids, made


def quantized(source: Path, out: Path, wanted: str) -> Path:
    from llorch.cli.main import main

    assert main(["quantize", str(source), str(out), wanted, "--allow-requantize"]) == 0
    return out


@runs_models
@every_type
def test_llama_cpp_goes_on_from_a_directory_as_from_the_gguf_of_the_same_weights(
    model_path: ModelPath, tmp_path: Path, wanted: str
) -> None:
    convert(model_path("tinystories-656k"), tmp_path / "ours.gguf", wanted)
    same = quantized(model_path("tinystories-656k-f32.gguf"), tmp_path / "same.gguf", wanted)
    prompt = "Once upon a time"
    token_ids, made = greedy(tmp_path / "ours.gguf", prompt)
    assert token_ids == open_tokenizer(model_path("tinystories-656k")).encode(prompt)
    assert made == greedy(same, prompt)[1]


@runs_models
@every_type
def test_llama_cpp_goes_on_from_a_real_model_as_before(
    smollm2: Path, smollm2_directory: Path, tmp_path: Path, wanted: str
) -> None:
    convert(smollm2_directory, tmp_path / "ours.gguf", wanted)
    f32 = quantized(smollm2, tmp_path / "f32.gguf", "F32")
    same = quantized(f32, tmp_path / "same.gguf", wanted)
    prompt = "The capital of France is"
    assert greedy(tmp_path / "ours.gguf", prompt) == greedy(same, prompt)


@runs_models
@pytest.mark.parametrize("name", IN_F32)
def test_llama_cpp_computes_what_llorch_computes_from_the_directory(name: str, tmp_path: Path) -> None:
    directory = write_case(name, tmp_path)
    convert(directory, tmp_path / "out.gguf", "F32")
    ids = token_ids_of(48, 384)
    with open_model(directory) as model:
        ours = Run(model.llama).prefill(ids)
    with LlamaCppModel(tmp_path / "out.gguf", 256) as theirs:
        assert worst(ours, theirs.decode(ids, 0, all_rows=True)) < F32_TOLERANCE


@runs_models
def test_llama_cpp_loads_a_file_without_a_vocabulary(tmp_path: Path) -> None:
    convert(write_directory(tmp_path / "in", tokenizer=False), tmp_path / "out.gguf")
    with LlamaCppModel(tmp_path / "out.gguf", 256) as model:
        assert model.decode([1, 5, 7], 0, all_rows=False).shape[-1] == 384


@runs_converter
@pytest.mark.parametrize("wanted", ["F32", "F16", "BF16", "Q8_0"])
def test_the_converter_makes_the_same_file_of_a_real_model(
    smollm2_directory: Path, tmp_path: Path, wanted: str
) -> None:
    assert compared(smollm2_directory, tmp_path, wanted) == {}


@runs_converter
def test_the_converter_makes_the_same_file_of_a_trained_model_but_for_its_vocabulary(
    model_path: ModelPath, tmp_path: Path
) -> None:
    """Its head is stored and the embedding is not, though they are tied: llama.cpp does not load its own file."""
    names = ("token_embd.weight", "output.weight")
    assert compared(model_path("tinystories-656k"), tmp_path, "F32", *OF_TOKENIZER_JSON, *names) == {}


@runs_converter
def test_the_converter_makes_the_same_file_with_sentencepieces_vocabulary(
    model_path: ModelPath, tmp_path: Path
) -> None:
    directory = write_directory(tmp_path / "in", config={"vocab_size": 32_000}, tokenizer=False)
    shutil.copy(model_path("tokenizer.model"), directory)
    about = {"add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(about))
    assert compared(directory, tmp_path, "F16", *OF_SENTENCEPIECE) == {}


def compared(directory: Path, folder: Path, wanted: str, *explained: str) -> object:
    """Differences between the two converters' files that are not explained."""
    convert(directory, folder / "ours.gguf", wanted)
    run_converter(Path(str(SOURCES)), directory, folder / "theirs.gguf", wanted.lower())
    found = differences(described(folder / "ours.gguf"), described(folder / "theirs.gguf"))
    return unexplained(found, *explained)
