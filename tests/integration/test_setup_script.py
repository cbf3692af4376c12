"""`tools/llorch` and `tools/test` set up their own environment, from wheels only."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.cli.main import COMMANDS, build_parser
from llorch.version import __version__
from tests.conftest import REPOSITORY
from tools.setup.lock import RUNNING_PYTHON, canonical, locked_versions

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


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def change_constraints(clone: Path) -> None:
    with (clone / "tools" / "setup" / "constraints.txt").open("a") as file:
        file.write("# changed\n")


@pytest.mark.slow
def test_one_command_installs_without_a_compiler_and_is_quick_afterwards(clone: Path) -> None:
    no_compiler = {"CC": "/bin/false", "CXX": "/bin/false"}
    first = script(clone, "--version", **no_compiler)
    assert (first.returncode, first.stdout) == (0, f"llorch {__version__}\n"), first.stderr
    before_s = cpu_seconds_of_children()
    again = script(clone, "--version")
    assert (again.stdout, again.stderr) == (f"llorch {__version__}\n", "")
    assert cpu_seconds_of_children() - before_s < 3
    # A run that was killed half-way leaves its marker; the next one repairs.
    (clone / ".venv" / "llorch-installing").touch()
    repaired = script(clone, "--version", **no_compiler)
    assert repaired.returncode == 0, repaired.stderr
    assert "first run" in repaired.stderr


@pytest.mark.slow
def test_the_locked_versions_are_installed_unless_the_newest_are_asked_for(clone: Path) -> None:
    assert script(clone, "--version").returncode == 0
    pip_list = [str(clone / ".venv" / "bin" / "python"), "-m", "pip", "list", "--format=json"]
    listed = json.loads(subprocess.run(pip_list, capture_output=True, check=True, text=True).stdout)
    installed = {canonical(package["name"]): package["version"] for package in listed}
    locked = locked_versions((clone / "tools" / "setup" / "constraints.txt").read_text(), RUNNING_PYTHON)
    for name in installed.keys() - {"pip", "setuptools", "llorch"}:
        assert installed[name] == locked[name], name
    newest = script(clone, "--version", LLORCH_NEWEST="1")
    assert (newest.returncode, newest.stdout) == (0, f"llorch {__version__}\n"), newest.stderr
    assert "installing" in newest.stderr
    assert script(clone, "--version", LLORCH_NEWEST="1").stderr == ""


def test_packages_are_installed_again_when_other_versions_are_wanted(clone: Path) -> None:
    """The environment's Python only writes down how it is called."""
    fake_python = clone / ".venv" / "bin" / "python"
    fake_python.parent.mkdir(parents=True)
    fake_python.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> "$0.calls"\n')
    fake_python.chmod(0o755)
    calls = fake_python.with_name("python.calls")

    def pip_call(**variables: str) -> str | None:
        """How pip was called by one run, None if it was not; llorch itself runs afterwards in any case."""
        calls.write_text("")
        assert script(clone, "--version", **variables).returncode == 0
        *before, last = calls.read_text().splitlines()
        assert last == "-P -m llorch --version"
        assert len(before) <= 1
        return before[0] if before else None

    constrained = f"--constraint {clone}/tools/setup/constraints.txt --editable {clone}"
    assert constrained in str(pip_call())
    assert pip_call() is None
    change_constraints(clone)
    assert constrained in str(pip_call())
    assert pip_call() is None
    newest = str(pip_call(LLORCH_NEWEST="1"))
    assert "--upgrade " in newest
    assert "--constraint" not in newest
    assert pip_call(LLORCH_NEWEST="1") is None
    change_constraints(clone)
    assert pip_call(LLORCH_NEWEST="1") is None
    assert constrained in str(pip_call())
    lowest = str(pip_call(LLORCH_LOWEST="1"))
    assert re.search(r"--constraint \S+/lowest.txt --editable", lowest)
    assert pip_call(LLORCH_LOWEST="1") is None
    assert "--upgrade " in str(pip_call(LLORCH_NEWEST="1"))
    assert constrained in str(pip_call())
    # One stamp at a time: after another installation, packages that were installed for the tests may be others.
    (clone / ".venv" / "llorch-test.stamp").write_text("other versions")
    change_constraints(clone)
    assert constrained in str(pip_call())
    assert [path.name for path in (clone / ".venv").glob("*.stamp")] == ["llorch-base.stamp"]


def test_the_newest_and_the_lowest_versions_are_not_asked_for_at_once(clone: Path) -> None:
    done = script(clone, "--version", LLORCH_NEWEST="1", LLORCH_LOWEST="1")
    assert done.returncode == 2
    assert "LLORCH_NEWEST=1 and LLORCH_LOWEST=1 contradict each other" in done.stderr


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
        r"llorch ([a-z][a-z-]*)([^`|\n]*)", "\n".join(re.findall(r"`[^`\n]+`|^\$ .*$", text, re.MULTILINE))
    )
    assert {"generate", "serve"} <= {name for name, _ in named}
    for name, rest in named:
        assert name in COMMANDS, name
        usage = build_parser(name)._subparsers._group_actions[0].choices[name].format_help()  # type: ignore
        for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest):
            assert re.search(rf"(?<![\w-]){flag}\b", usage), f"{name} has no {flag}"
    for path in re.findall(r"^\$ ((?:tools|\.ci)/\w+)", text, re.MULTILINE):
        assert os.access(REPOSITORY / path, os.X_OK), path
