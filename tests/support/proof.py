"""What tests of `llorch validate` and of proof bundles share: the tiny model's references, and how a forger works."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from llorch.cli.main import main
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


def rehash(folder: Path) -> None:
    """What a forger would do after changing a file."""
    index = json.loads((folder / "bundle.json").read_text())
    for name, entry in index["files"].items():
        content = (folder / name).read_bytes()
        entry.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    (folder / "bundle.json").write_text(json.dumps(index))
