"""A directory of Hugging Face is held against transformers stage by stage, from stored dumps.

`tools/oracles/transformers_checkpoints.py` made the dumps from directories that the tests make again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llorch.errors import ReferenceDumpError
from llorch.validation.checkpoints import validate
from llorch.validation.dumps import Reference
from llorch.validation.subject import open_subject
from llorch.validation.tolerances import stage_key
from tests.support import faults
from tests.support.commands import llorch, refused
from tests.support.hf_directories import write_directory
from tests.support.oracle_values import FOLDER
from tests.support.planted_faults import FAULTS
from tools.oracles.tiny_llamas import CHECKPOINTED, CHECKPOINTED_NAMES, write_checkpointed

DUMPS = FOLDER / "checkpoints"


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("directories")
    return {name: write_checkpointed(name, folder / name) for name in CHECKPOINTED_NAMES}


@pytest.mark.parametrize("name", CHECKPOINTED_NAMES)
def test_every_checkpoint_passes_against_transformers(name: str, directories: dict[str, Path]) -> None:
    reference = Reference.load(DUMPS / name)
    assert reference.program == "transformers"
    subject = open_subject(directories[name], reference, n_threads=1)
    assert subject.notes["prompt"] == "our tokenizer gives the same ids"
    with subject.model:
        result = validate(subject, reference)
    assert result.findings.first_failure is None
    assert {row.verdict for row in result.rows} == {"pass"}
    assert {row.number for row in result.rows} == {*(str(i) for i in range(1, 13)), "3b"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_directory_is_found_where_it_sits(name: str, directories: dict[str, Path]) -> None:
    changes, checkpoint, stage = FAULTS[name]
    reference = Reference.load(DUMPS / "tiny-f32")
    with faults.faulty_subject(directories["tiny-f32"], reference, **changes) as subject:
        failure = validate(subject, reference).findings.first_failure
    assert failure is not None
    assert (failure.checkpoint, stage_key(failure.stage, failure.layer)) == (checkpoint, stage)


def test_weights_or_settings_that_the_dump_is_not_of_are_refused(tmp_path: Path) -> None:
    reference = Reference.load(DUMPS / "tiny-f32")
    arguments = dict(CHECKPOINTED["tiny-f32"])
    with pytest.raises(ReferenceDumpError, match="was made from tiny-f32 with sha256"):
        open_subject(write_directory(tmp_path / "other", **arguments, seed=7), reference)
    arguments["config"] = {**arguments["config"], "rms_norm_eps": 1e-6}
    with pytest.raises(ReferenceDumpError, match="was made from tiny-f32 with sha256"):
        open_subject(write_directory(tmp_path / "eps", **arguments), reference)


def test_the_command_names_transformers_and_writes_a_bundle(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    words = ["validate", "-m", str(directories["tiny-bf16"]), "--reference", str(DUMPS / "tiny-bf16")]
    done = llorch(*words, "--proof-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "against transformers" in done.stdout
    (summary,) = tmp_path.rglob("summary.md")
    text = summary.read_text()
    assert "held against those of transformers (run" in text
    assert "expanded to F32 in memory" in text
    document = next(tmp_path.rglob("checkpoints.json"))
    recorded = json.loads(document.read_text())
    assert recorded["profiles"][0]["reference"]["identity"]["program"] == "transformers"
    again = llorch("validate", "--verify", str(document.parent))
    assert again.returncode == 0, again.stdout


@pytest.mark.slow
def test_a_trace_of_a_directory_is_held_against_transformers(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    reference = str(DUMPS / "tiny-f32")
    words = [
        "trace",
        "-m",
        str(directories["tiny-f32"]),
        "--reference",
        reference,
        "-o",
        str(tmp_path / "t.json"),
    ]
    done = llorch(*words)
    assert done.returncode == 0, done.stderr
    assert "profile f32 against transformers 4.57.6: passed" in done.stdout


def test_without_a_reference_the_program_that_makes_one_is_named(directories: dict[str, Path]) -> None:
    assert "extract_checkpoints_hf of a directory" in refused("validate", "-m", str(directories["tiny-f32"]))
