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


def run_mutants(folder: Path, seed: int, n: int, form: str, timeout_s: float) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.support.fuzz_worker", str(folder), str(seed), str(n), form]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    lines = done.stdout.splitlines() or ["no mutant was tried"]
    assert done.returncode == 0, f"{lines[-1]}: exit {done.returncode}\n{done.stderr[-4000:]}"
    outcomes: dict[str, int] = json.loads(lines[-1])
    return outcomes


SLOW = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("form", "seed", "n"),
    [
        ("gguf", 1, 100),
        ("directory", 1, 120),
        pytest.param("gguf", 2, 12_000, marks=SLOW),
        pytest.param("directory", 2, 2_000, marks=SLOW),
    ],
)
def test_mutants_that_load_generate_four_tokens(tmp_path: Path, form: str, seed: int, n: int) -> None:
    outcomes = run_mutants(tmp_path, seed, n, form, timeout_s=240 if n <= 1000 else 1700)
    assert outcomes["refused"] + outcomes["generated"] + outcomes["overflowed"] == n
    assert outcomes["refused"] > n // 10
    assert outcomes["generated"] > n // 10
    assert outcomes["overflowed"] <= n // 50
    assert outcomes["peak_bytes"] < MAX_PEAK_BYTES
