"""Every kernel path this CPU can run gives the same bits, up to whole models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from llorch.kernels import paths
from llorch.quant.types import SUPPORTED
from tests.conftest import REPOSITORY, test_models_dir
from tests.support.masks import can_run
from tests.support.tiny_models import write_tiny_llama

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    tiny = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_llama(tiny, n_layer=2, n_ff=172, types={"attn_k.weight": "BF16", "attn_v.weight": "F32"})
    real = test_models_dir() / "stories260K-ffn192-q8_0.gguf"
    return [tiny, real] if real.exists() else [tiny]


USUAL = ("F32", "F16", "BF16", "Q8_0", "Q4_K")
"""Types whose products the default tests compare; each more compiles for a second on every path."""


def compute(models: list[Path], mask: str | None, types: Iterable[str] = USUAL) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != "LLORCH_CPU"}
    if mask:
        environment["LLORCH_CPU"] = mask
    command = [sys.executable, "-m", "tests.support.path_worker", ",".join(types), *map(str, models)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def unmasked(models: list[Path]) -> dict[str, Any]:
    return compute(models, None)


@pytest.mark.parametrize(
    "mask",
    [
        "avx512",
        "avx2",
        pytest.param("avxvnni", marks=pytest.mark.slow),
        pytest.param("generic", marks=pytest.mark.slow),
    ],
)
def test_a_path_gives_the_same_bits_as_the_best_one(
    mask: str, models: list[Path], unmasked: dict[str, Any]
) -> None:
    if not can_run(mask):
        pytest.skip(f"this CPU cannot run the {mask} path")
    if unmasked["path"] == mask:
        pytest.skip(f"{mask} is the best path of this CPU")
    masked = compute(models, mask)
    assert masked["path"] == mask
    different = [key for key, value in unmasked["exact"].items() if masked["exact"][key] != value]
    assert different == []
    assert masked["greedy"] == unmasked["greedy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("amx", "Q8_0,Q4_0,Q4_K,Q6_K"),
        ("avx512", "Q8_0,Q4_1,Q4_K"),
        ("avxvnni", "Q8_0,Q6_K,IQ4_NL"),
        ("neon", "Q8_0,Q4_0,Q5_1,Q4_K,IQ4_NL"),
        ("i8mm", "Q8_0,Q4_1,Q4_K,Q6_K,IQ4_NL"),
    ],
)
def test_a_path_of_another_cpu_gives_the_same_bits_with_its_instructions_emulated(
    path: str, types: str
) -> None:
    if can_run(path):
        pytest.skip(f"this CPU runs the {path} path itself")
    command = [sys.executable, "-m", "tests.support.emulated_cpu", path, "tests.support.path_worker", types]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    emulated = json.loads(done.stdout.splitlines()[-1])
    assert emulated["path"] == path
    assert emulated["exact"] == compute([], None, types.split(","))["exact"]


@pytest.mark.slow
def test_products_of_every_type_have_the_same_bits_on_every_path() -> None:
    names = [quant.name for quant in SUPPORTED.values()]
    made = {mask: compute([], mask, names) for mask in paths.PATHS if can_run(mask)}
    best, *others = made.values()
    assert {f"matmul {name}" for name in names} <= set(best["exact"])
    for other in others:
        assert other["exact"] == best["exact"], other["path"]


def test_the_unmasked_path_is_the_best_one_of_this_cpu(unmasked: dict[str, Any]) -> None:
    best = next(mask for mask in paths.PATHS if can_run(mask))
    assert unmasked["path"] == best


def test_an_unknown_path_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llorch", "inspect"],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_CPU": "sse9"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "LLORCH_CPU='sse9'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["packed", "mapped"])
@pytest.mark.parametrize("mask", paths.PATHS)
def test_every_path_and_residence_passes_validation(mask: str, weights: str, tmp_path: Path) -> None:
    if not can_run(mask):
        pytest.skip(f"this CPU cannot run the {mask} path")
    command = [sys.executable, "-m", "llorch", "validate", "--all", "--weights", weights]
    done = subprocess.run(
        [*command, "--proof-dir", str(tmp_path), "--json"],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_CPU": mask},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout)["passed"]


@pytest.mark.slow
@pytest.mark.parametrize("mask", paths.PATHS[1:])
def test_every_path_writes_llama_cpp_s_greedy_texts(mask: str) -> None:
    if not can_run(mask):
        pytest.skip(f"this CPU cannot run the {mask} path")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/golden"],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_CPU": mask},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
