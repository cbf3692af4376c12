"""Code run in Python processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import REPOSITORY


def run_python(
    code: str, cwd: Path, *args: str, wrapper: Sequence[str] = (), **environment: str
) -> list[str]:
    """Lines that a new process prints; `wrapper` is a command that runs it."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", code, *args],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return done.stdout.splitlines()
