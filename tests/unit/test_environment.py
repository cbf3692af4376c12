"""What is kept about a result is what it depends on, and names no folder of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llorch import environment as environment_module
from llorch.environment import environment, git_state, reproducible_command
from llorch.validation.bundle_writer import new_run_id


def test_the_environment_says_what_a_result_may_depend_on() -> None:
    here = environment()
    assert {
        "llorch",
        "commit",
        "is_modified",
        "python",
        "numpy",
        "numba",
        "llvmlite",
        "system",
        "kernels",
    } == set(here)
    json.dumps(here)


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "__file__", str(tmp_path / "site-packages" / "llorch" / "e.py"))
    assert git_state() == {"commit": None, "is_modified": None}
    assert new_run_id().count("-v") == 1


def test_a_command_for_the_record_has_no_foreign_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["llorch", "validate", "-m", str(tmp_path / "in" / "m.gguf"), "-p", "two words", "/else/where/d"]
    monkeypatch.delenv("LLORCH_CPU", raising=False)
    monkeypatch.delenv("LLORCH_SUMS", raising=False)
    assert reproducible_command(words) == "llorch validate -m in/m.gguf -p 'two words' d"


def test_a_command_line_begins_with_what_chose_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLORCH_CPU", "avx2")
    monkeypatch.setenv("LLORCH_SUMS", "llama.cpp")
    words = ["llorch", "validate"]
    assert reproducible_command(words) == "LLORCH_CPU=avx2 LLORCH_SUMS=llama.cpp llorch validate"
