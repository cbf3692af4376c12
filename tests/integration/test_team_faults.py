"""Faults planted in the thread team's source, to see that its tests find them: tests that cannot fail prove nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TEAM_TESTS = "tests/unit/kernels/test_team.py"
HANG_S = 40
"""A test that waits longer for a step hangs; the thread method ends the process, as machine code hears no signals."""

INTERPRETER, BARRIER, TEAM = (f"llorch/kernels/{name}.py" for name in ("interpreter", "barrier", "team"))
FAULTS = {
    "no instruction is executed": (
        INTERPRETER,
        "        call_unit(",
        "        if ith > nth:\n            call_unit(",
    ),
    "one thread skips one instruction": (
        INTERPRETER,
        "        call_unit(",
        "        if i != 3 or ith != 1:\n            call_unit(",
    ),
    "a barrier is passed early": (
        BARRIER,
        "while atomic_load(watched) < everyone:",
        "while atomic_load(watched) < everyone - 1:",
    ),
    "a parked thread is not woken": (
        TEAM,
        "ith * b.LINE):\n                self._wake[ith].put(None)",
        "ith * b.LINE):\n                pass",
    ),
}


def run_team_tests(folder: Path) -> subprocess.CompletedProcess[str]:
    """The team's tests on the copy in `folder`."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"--timeout={HANG_S}",
        "--timeout-method=thread",
        TEAM_TESTS,
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["LLORCH_CACHE_DIR"] = str(folder / "cache")
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its tests."""
    skipped = shutil.ignore_patterns("__pycache__", "golden", "assets")
    for name in ("llorch", "tests"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=skipped)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_without_a_fault_the_tests_of_the_team_pass(copy: Path) -> None:
    done = run_team_tests(copy)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_team_is_found(fault: str, copy: Path) -> None:
    path, right, wrong = FAULTS[fault]
    source = (copy / path).read_text("utf-8")
    assert source.count(right) == 1
    (copy / path).write_text(source.replace(right, wrong), "utf-8")
    done = run_team_tests(copy)
    assert done.returncode != 0, "all tests passed with this fault"
    assert "test_team.py" in done.stdout
