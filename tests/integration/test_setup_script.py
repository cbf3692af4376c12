"""`tools/llorch` and `tools/test` set up their own environment, from wheels only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llorch.cli.main import COMMANDS, build_parser
from llorch.version import __version__
from tests.conftest import REPOSITORY

SHIPPED = ("llorch", "tools", "pyproject.toml", "README.md", "LICENSE", "config.toml")


def script(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LLORCH_")}
    return subprocess.run(
        [clone / "tools" / "llorch", *arguments],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "LLORCH_PYTHON": sys.executable, **variables},
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What somebody has who downloaded the project, in a folder with a space in its name."""
    folder = tmp_path / "my clone"
    folder.mkdir()
    for name in SHIPPED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.mark.slow
def test_one_command_installs_without_a_compiler_and_is_quick_afterwards(clone: Path) -> None:
    no_compiler = {"CC": "/bin/false", "CXX": "/bin/false"}
    first = script(clone, "--version", **no_compiler)
    assert (first.returncode, first.stdout) == (0, f"llorch {__version__}\n"), first.stderr
    began = time.monotonic()
    again = script(clone, "--version")
    assert (again.stdout, again.stderr) == (f"llorch {__version__}\n", "")
    assert time.monotonic() - began < 3
    # A run that was killed half-way leaves its marker; the next one repairs.
    (clone / ".venv" / "llorch-installing").touch()
    repaired = script(clone, "--version", **no_compiler)
    assert repaired.returncode == 0, repaired.stderr
    assert "first run" in repaired.stderr


def test_without_a_suitable_python_it_says_what_is_missing(clone: Path) -> None:
    result = script(clone, "--version", LLORCH_PYTHON="/no/python")
    assert result.returncode == 2
    assert "3.11" in result.stderr
    assert result.stdout == ""


def test_a_folder_that_is_no_environment_is_left_alone(clone: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    result = script(clone, "--version", LLORCH_VENV=str(precious))
    assert result.returncode == 2
    assert str(precious) in result.stderr
    assert [path.name for path in precious.iterdir()] == ["file"]


def test_readme_shows_only_commands_and_flags_that_exist() -> None:
    text = (REPOSITORY / "README.md").read_text()
    named = re.findall(
        r"llorch ([a-z]+)([^`|\n]*)", "\n".join(re.findall(r"`[^`\n]+`|^\$ .*$", text, re.MULTILINE))
    )
    assert {"generate", "serve"} <= {name for name, _ in named}
    for name, rest in named:
        assert name in COMMANDS, name
        usage = build_parser(name)._subparsers._group_actions[0].choices[name].format_help()  # type: ignore
        for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest):
            assert re.search(rf"(?<![\w-]){flag}\b", usage), f"{name} has no {flag}"
    for path in re.findall(r"^\$ ((?:tools|\.ci)/\w+)", text, re.MULTILINE):
        assert os.access(REPOSITORY / path, os.X_OK), path
