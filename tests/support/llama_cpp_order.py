"""Runs llorch with floats added in llama.cpp's order, and looks for differences in proof bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tools.reference.llama_cpp_build import adds_in_the_order_we_know


def run(*arguments: str, sums: str = "llama.cpp") -> subprocess.CompletedProcess[str]:
    """`llorch` in a process of its own, since the order is settled when one starts."""
    return subprocess.run(
        [sys.executable, "-m", "llorch", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"LLORCH_SUMS": sums},
        capture_output=True,
        text=True,
        timeout=300,
    )


def different_stages(bundle: Path) -> list[str]:
    """Comparisons of a bundle that found any difference at all.

    Checkpoint 11 is left out: it compares our sampler's softmax with one in float64, not with llama.cpp.
    """
    checks = [
        check
        for path in bundle.glob("checks-*.ndjson")
        for check in map(json.loads, path.read_text().splitlines()[1:])
        if check.get("comparison") and check["checkpoint"] != "11"
    ]
    assert len(checks) > 100
    return [
        f"{check['way']} {check['run']} {check['stage']}-{check['layer']}"
        for check in checks
        if check["comparison"]["max_abs"] != 0
    ]


def dumped_in_the_order_we_know(references: Path) -> bool:
    """Whether the dumps come from a build that `LLORCH_SUMS=llama.cpp` reproduces."""
    manifest = json.loads(next(references.rglob("manifest.json")).read_text())
    return adds_in_the_order_we_know(manifest["reference"]["system_info"])


def assert_equal_in_every_bit(*arguments: str) -> None:
    """`llorch validate` with these arguments finds no difference in any stage."""
    done = run("validate", "--all", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    bundle = Path(json.loads(done.stdout)["bundle"])
    assert json.loads((bundle / "bundle.json").read_text())["environment"]["kernels"]["sums"] == "llama.cpp"
    assert different_stages(bundle) == []
