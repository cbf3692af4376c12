"""What tests of `llorch validate` and of proof bundles share: the tiny model's references, and how a forger works."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import pytest

from llorch.cli.main import main
from llorch.errors import ReferenceDumpError
from llorch.validation.attestation import ATTESTATION, statement_bytes, statement_of
from llorch.validation.sums import SUMS, sums_of_folder
from tests.conftest import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "checkpoints"
TINY = ["validate", "-m", str(GOLDEN / "tiny.gguf")]


def error_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """The one line of a command that is refused."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def stored_bundle(kind: str) -> Path:
    """A bundle that is kept with the project; the test is skipped where there is none, as in a source package."""
    found = sorted((REPOSITORY / "proof_bundle" / kind).glob("*/bundle.json"))
    if not found:
        pytest.skip(f"there is no {kind} bundle with the project")
    return found[0].parent


def rehash(folder: Path) -> None:
    """What a forger would do after changing a file: make all hashes anew, and the attestation where one follows."""
    index = json.loads((folder / "bundle.json").read_text())
    for name, entry in index["files"].items():
        content = (folder / name).read_bytes()
        entry.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    (folder / "bundle.json").write_text(json.dumps(index))
    with contextlib.suppress(ReferenceDumpError):
        statement = statement_of(
            (folder / "bundle.json").read_bytes(), lambda name: (folder / name).read_bytes()
        )
        (folder / ATTESTATION).write_bytes(statement_bytes(statement))
    (folder / SUMS).write_bytes(sums_of_folder(folder))
