"""Dumps of llama.cpp, made afresh."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY


def extract(model: Path, folder: Path, prompt: str, *flags: str) -> None:
    """Run llama.cpp on `model`, and keep what it computes in `folder`."""
    program = [sys.executable, "-m", "tools.reference.extract_checkpoints"]
    words = [*program, "-m", str(model), "-p", prompt, "-o", str(folder), *flags]
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
