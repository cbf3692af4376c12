"""`llorch warmup`, and what a later start still has to compile: nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.support.commands import llorch, refused
from tests.support.tiny_models import write_tiny_llama


def warmup(*arguments: str, **variables: str) -> dict[str, Any]:
    result = llorch("warmup", "--json", *arguments, **variables)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def entries(cache: Path) -> dict[str, int]:
    """Machine code that is kept, by name, and when it was compiled."""
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.o")}


@pytest.mark.slow
def test_all_is_every_unit() -> None:
    count = "from llorch.kernels import all_units; print(len(all_units()))"
    done = subprocess.run(
        [sys.executable, "-c", count], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert warmup("--all")["units"] == int(done.stdout)


def test_all_excludes_a_model() -> None:
    line = refused("warmup", "--all", "-m", "demo")
    assert "--all" in line
    assert "-m" in line


@pytest.mark.slow
def test_a_later_start_compiles_nothing_whatever_was_run_in_between(tmp_path: Path) -> None:
    """Compilations are counted as entries of a cache that begins empty; an entry is written for each."""
    cache = tmp_path / "cache"
    variables = {"LLORCH_CACHE_DIR": str(cache)}
    q8_0, f16 = tmp_path / "q8_0.gguf", tmp_path / "f16.gguf"
    write_tiny_llama(q8_0)
    write_tiny_llama(f16, type="F16")
    first = warmup("-m", str(q8_0), **variables)
    assert first["cached"] is False
    assert len(entries(cache)) == first["units"]

    def start(model: Path) -> str:
        return llorch("generate", "Hello", "-n", "2", "-m", str(model), **variables).stderr

    after_warmup = entries(cache)
    assert "compiling kernels" not in start(q8_0)
    assert entries(cache) == after_warmup
    assert start(f16).count("compiling kernels") == 1
    after_both = entries(cache)
    assert after_warmup.items() < after_both.items()
    assert "compiling kernels" not in start(q8_0) + start(f16)
    assert entries(cache) == after_both
    assert warmup("-m", str(q8_0), **variables) | {"seconds": 0} == first | {"seconds": 0, "cached": True}
