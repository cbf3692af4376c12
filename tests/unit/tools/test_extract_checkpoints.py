"""Dumps made from llama.cpp hold what an independent float64 computation gives. Needs llama-cpp-python."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.validation.compare import compare
from llorch.validation.dumps import Reference
from llorch.validation.tolerances import STAGES
from tests.support.naive_stages import NaiveModel, recompute
from tools.reference.extract_checkpoints import main
from tools.reference.make_f32_twin import make_f32_twin

ModelPath = Callable[[str], Path]
pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="llama-cpp-python is not installed"),
]
PROMPT = "Once upon a time there was a"
MODELS = [
    "stories260K-f32",
    "stories260K-f16",
    "stories260K-q8_0",
    "stories260K-ffn192-q8_0",
    "tinystories-656k-f32",
    "tinystories-656k-f16",
    "tinystories-656k-q8_0",
]


def assert_explained(model: Path, reference: Reference) -> None:
    """Every stage of the dump is what float64 NumPy computes from the dump's own inputs."""
    seen = set()
    for run, stage, layer, expected in recompute(NaiveModel(model), reference):
        theirs = reference.array(run, stage, layer)
        result = compare(expected, theirs, STAGES[stage].tolerance)
        assert result.passed, f"{run.name} {stage}-{layer}: {result}"
        seen.add((run.name, stage, layer))
    assert seen == {(run.name, *stage) for run in reference.passes() for stage in reference.stages(run)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("profile", ["native", "f32"])
def test_every_stage_is_explained(model_path: ModelPath, tmp_path: Path, name: str, profile: str) -> None:
    model, out = model_path(f"{name}.gguf"), tmp_path / "reference"
    flags = ["--f32"] if profile == "f32" else []
    assert main(["-m", str(model), "-p", PROMPT, "-o", str(out), *flags]) == 0
    reference = Reference.load(out)
    assert reference.profile == profile
    if profile == "f32":
        twin = make_f32_twin(model, tmp_path / "twin.gguf")
        model = tmp_path / "twin.gguf"
        reference.require_model(twin.sha256)
    assert_explained(model, reference)


def test_two_extractions_are_the_same_bytes(model_path: ModelPath, tmp_path: Path) -> None:
    model = model_path("stories260K-q8_0.gguf")
    for name in ("a", "b"):
        assert main(["-m", str(model), "-p", PROMPT, "-o", str(tmp_path / name)]) == 0
    for file in ("prefill.npz", "decode.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_greedy_ids_agree_with_the_golden_continuations(model_path: ModelPath, tmp_path: Path) -> None:
    golden = Path(__file__).resolve().parents[2] / "golden" / "greedy" / "stories260K-q8_0.json"
    run = next(run for run in json.loads(golden.read_text())["runs"] if run["name"] == "opening")
    model = model_path("stories260K-q8_0.gguf")
    assert (
        main(["-m", str(model), "-p", run["prompt"], "-o", str(tmp_path / "r"), "--decode-stages", "kv"]) == 0
    )
    assert list(Reference.load(tmp_path / "r").manifest.greedy.token_ids) == run["token_ids"][:11]


def test_a_reference_is_replaced_only_when_asked(
    model_path: ModelPath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-m", str(model_path("stories260K-q8_0.gguf")), "-p", "Hi", "--n-decode", "0"]
    out = tmp_path / "reference"
    assert main([*arguments, "-o", str(out)]) == 0
    assert main([*arguments, "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "-o", str(out), "--force"]) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    assert main([*arguments, "-o", str(tmp_path / "other"), "--force"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "reference"]


@pytest.mark.parametrize(
    ("name", "flags", "complaint"),
    [
        ("stories260K-q8_0.gguf", ["-p", "Hi", "--layers", "5"], "layers 0 to 4"),
        ("ggml-vocab-llama-spm.gguf", ["-p", "Hi"], "cannot load"),
        ("tinystories-656k-q8_0.gguf", ["-p", "é"], "neither a token"),
    ],
)
def test_what_cannot_be_dumped_leaves_nothing(
    model_path: ModelPath,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    flags: list[str],
    complaint: str,
) -> None:
    assert main(["-m", str(model_path(name)), *flags, "-o", str(tmp_path / "out")]) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
