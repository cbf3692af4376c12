"""Every weight type against llama.cpp, which makes the files: each checkpoint, each fault, each greedy token.

The synthetic model has rows of whole blocks of 256; SmolLM2 is a real one, whose rows of 576
take the types that llama.cpp falls back to. For equal bits llama.cpp is built as `tools/setup/llama_cpp.sh` builds it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.kernels import paths
from llorch.validation.checkpoints import validate
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import stage_key
from tests.conftest import REPOSITORY
from tests.support import faults
from tests.support.masks import can_run
from tests.support.planted_faults import FAULTS
from tests.support.requantized import MIXED, PURE, requantize, write_all, write_source
from tests.support.validate_worker import validate_all
from tools.reference import extract_checkpoints, extract_greedy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.reference,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]

PROMPT = "Once upon a time the world"

in_known_order = pytest.mark.usefixtures("llama_cpp_in_known_order")


def extract(model: Path, references: Path, *flags: str) -> None:
    words = ["-m", str(model), "-p", PROMPT, "-o", str(references / model.stem), *flags]
    assert extract_checkpoints.main(words) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    path = folder / "source.gguf"
    write_source(path)
    return path


@pytest.fixture(scope="module")
def mixed(source: Path, folder: Path) -> Path:
    """One file that holds every type, and the dump of it."""
    path = folder / "mixed.gguf"
    requantize(source, path, 7, pure=True, types=MIXED)
    extract(path, folder / "references")
    return path


@pytest.fixture(scope="module")
def files(source: Path, folder: Path) -> dict[str, Path]:
    """The synthetic model in every type, and in every mixture that `llama-quantize` makes."""
    return write_all(source, folder)


@pytest.fixture(scope="module")
def pure_files(files: dict[str, Path], folder: Path) -> list[Path]:
    """One for each type, and the dumps of them."""
    pure = [files[name] for name in PURE]
    for path in pure:
        extract(path, folder / "references", "--n-decode", "2")
    return pure


@in_known_order
def test_in_llama_cpp_s_order_no_stage_of_any_type_differs_in_any_bit(
    pure_files: list[Path], folder: Path
) -> None:
    found = validate_all(pure_files, folder / "references", "mapped", LLORCH_SUMS="llama.cpp")
    assert len(found) == 11
    assert found == {name: {"failed": [], "different": []} for name in found}


def test_in_our_order_every_type_keeps_to_the_tolerances_of_every_stage(
    pure_files: list[Path], folder: Path
) -> None:
    found = validate_all(pure_files, folder / "references", "packed")
    assert {name: result["failed"] for name, result in found.items()} == {name: [] for name in found}


@pytest.mark.parametrize("residence", ["packed", "mapped"])
@pytest.mark.parametrize("mask", paths.PATHS)
def test_a_file_of_every_type_keeps_to_the_tolerances_on_every_path_and_residence(
    mask: str, residence: str, mixed: Path, folder: Path
) -> None:
    if not can_run(mask):
        pytest.skip(f"this CPU cannot run the {mask} path")
    found = validate_all([mixed], folder / "references", residence, LLORCH_CPU=mask)
    assert found["mixed"]["failed"] == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_sits_in_a_file_of_every_type(name: str, mixed: Path, folder: Path) -> None:
    changes, checkpoint, stage = FAULTS[name]
    reference = Reference.load(folder / "references" / mixed.stem)
    with faults.faulty_subject(mixed, reference, **changes) as subject:
        failure = validate(subject, reference).findings.first_failure
    assert failure is not None
    assert (failure.checkpoint, stage_key(failure.stage, failure.layer)) == (checkpoint, stage)


def greedy_in_llama_cpp_s_order(pairs: dict[Path, Path]) -> dict[str, list[list[int]]]:
    """Continuations by golden file's stem, of models by golden file."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.greedy_worker", *(f"{g}={m}" for g, m in pairs.items())],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_SUMS": "llama.cpp"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    made: dict[str, list[list[int]]] = json.loads(done.stdout)["continuations"]
    return made


def assert_greedy_tokens_are_equal(
    models: list[Path], folder: Path, prompts: dict[str, str], n_tokens: int
) -> None:
    wanted, pairs = {}, {}
    for model in models:
        document = extract_greedy.extract(model, n_tokens, None, prompts)
        golden = folder / f"{model.stem}.json"
        golden.write_text(json.dumps(document))
        wanted[model.stem] = [run["token_ids"] for run in document["runs"]]
        pairs[golden] = model
    assert greedy_in_llama_cpp_s_order(pairs) == wanted


@in_known_order
def test_greedy_tokens_of_every_type_equal_llama_cpp_s(files: dict[str, Path], tmp_path: Path) -> None:
    assert_greedy_tokens_are_equal(list(files.values()), tmp_path, extract_greedy.PROMPTS, 40)


SMOLLM2_TYPES = ("Q4_0", "Q4_1", "Q5_1", "Q4_K", "Q6_K", "IQ4_NL")
"""Types that the real model takes in CI; docs/formats.md has all of them, with 200 tokens."""


@pytest.fixture(scope="module")
def smollm2_files(smollm2: Path, folder: Path) -> dict[str, Path]:
    """SmolLM2 in some types."""
    made = {name: folder / f"{smollm2.stem}-{name}.gguf" for name in SMOLLM2_TYPES}
    for name, path in made.items():
        requantize(smollm2, path, PURE[name], pure=True)
    return made


@in_known_order
def test_no_stage_of_smollm2_in_any_type_differs_in_any_bit(
    smollm2_files: dict[str, Path], folder: Path
) -> None:
    files = [smollm2_files[name] for name in ("Q4_1", "Q4_K", "Q6_K")]
    for path in files:
        extract(path, folder / "references", "--layers", "0,29", "--n-decode", "1")
    found = validate_all(files, folder / "references", "mapped", LLORCH_SUMS="llama.cpp")
    assert len(found) == len(files)
    assert found == {name: {"failed": [], "different": []} for name in found}


@in_known_order
def test_greedy_tokens_of_smollm2_in_every_type_equal_llama_cpp_s(
    smollm2_files: dict[str, Path], tmp_path: Path
) -> None:
    prompts = {name: extract_greedy.PROMPTS[name] for name in ("opening", "dialogue", "unicode")}
    assert_greedy_tokens_are_equal(list(smollm2_files.values()), tmp_path, prompts, 40)
