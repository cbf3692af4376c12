"""`LLORCH_SUMS=llama.cpp`: with floats added in llama.cpp's order, every stage equals its dump in every bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.llama_cpp_order import assert_equal_in_every_bit, different_stages, run


def test_all_stages_of_the_demo_model_equal_the_stored_dumps_in_every_bit(tmp_path: Path) -> None:
    assert_equal_in_every_bit("--proof-dir", str(tmp_path))


@pytest.mark.slow
def test_in_our_own_order_some_stage_differs(tmp_path: Path) -> None:
    done = run("validate", "--all", "--json", "--proof-dir", str(tmp_path), sums="llorch")
    assert different_stages(Path(json.loads(done.stdout)["bundle"])) != []


def test_inspect_says_whose_order_is_followed() -> None:
    document = json.loads(run("inspect", "--json").stdout)
    assert document["kernels"]["sums"] == "llama.cpp"
    assert document["memory"]["weights_residence"] == "mapped"


def test_an_unknown_order_is_refused_by_name() -> None:
    done = run("inspect", sums="fortran")
    assert done.returncode == 2
    assert "LLORCH_SUMS='fortran'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sums", ["", "llorch"])
def test_our_own_order_is_the_default(sums: str) -> None:
    assert json.loads(run("inspect", "--json", sums=sums).stdout)["kernels"]["sums"] == "llorch"
