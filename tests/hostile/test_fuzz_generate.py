"""Mutants of a model either fail to load with a clear error or generate; nothing crashes, hangs or bloats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MAX_PEAK_BYTES = 1 << 30
"""Of the whole process, compiled kernels included; an unchecked size would ask for far more."""


def run_mutants(directory: Path, seed: int, n: int, timeout_s: float) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.support.fuzz_worker", str(directory), str(seed), str(n)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    lines = done.stdout.splitlines() or ["no mutant was tried"]
    assert done.returncode == 0, f"{lines[-1]}: exit {done.returncode}\n{done.stderr[-4000:]}"
    outcomes: dict[str, int] = json.loads(lines[-1])
    return outcomes


@pytest.mark.parametrize(
    ("seed", "n"), [(1, 900), pytest.param(2, 12_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_mutants_that_load_generate_four_tokens(tmp_path: Path, seed: int, n: int) -> None:
    outcomes = run_mutants(tmp_path, seed, n, timeout_s=240 if n <= 1000 else 1700)
    assert outcomes["refused"] + outcomes["generated"] + outcomes["overflowed"] == n
    assert outcomes["refused"] > n // 10
    assert outcomes["generated"] > n // 10
    assert outcomes["overflowed"] <= n // 50
    assert outcomes["peak_bytes"] < MAX_PEAK_BYTES
