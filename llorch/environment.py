"""What a stored result depends on: versions, commit, machine, kernels, and the command line that gives it again."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llorch.kernels import paths
from llorch.machine.user_folders import has_working_folder
from llorch.version import __version__

_PACKAGES = ("numpy", "numba", "llvmlite")


def environment() -> dict[str, Any]:
    """Versions, commit, machine and kernels, by name; None where something cannot be known."""
    return {
        "llorch": __version__,
        **git_state(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "kernels": paths.describe(),
    }


def git_state() -> dict[str, Any]:
    """`commit` of the checkout that llorch runs from, and whether it `is_modified`; None outside one."""
    root = Path(__file__).resolve().parents[1]
    none: dict[str, Any] = {"commit": None, "is_modified": None}
    if not (root / ".git").exists():
        return none
    answers = []
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "--", "llorch"]):
        git = ["git", "-C", str(root), *words]
        try:
            done = subprocess.run(git, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return none
        answers.append(done.stdout.strip())
    return {"commit": answers[0], "is_modified": bool(answers[1])}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def reproducible_command(words: Sequence[str]) -> str:
    """A command line for the record: paths inside the current folder relative, others by their name alone.

    Variables that choose the kernels stand before it.
    """
    here = Path.cwd() if has_working_folder() else None
    chosen = {name: os.environ.get(name) for name in paths.VARIABLES}
    shown = [f"{name}={value}" for name, value in chosen.items() if value]
    for word in words:
        path = Path(word)
        if path.is_absolute():
            word = str(path.relative_to(here)) if here and path.is_relative_to(here) else path.name
        shown.append(word)
    return shlex.join(shown)
