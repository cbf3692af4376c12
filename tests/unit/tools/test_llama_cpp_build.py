"""Which builds of llama.cpp add as `LLORCH_SUMS=llama.cpp` does."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.conftest import REPOSITORY
from tools.reference import llama_cpp_build

AVX2 = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1 | OPENMP = 1 | REPACK = 1"


def test_the_stored_references_are_of_a_build_in_the_known_order() -> None:
    manifests = list((REPOSITORY / "llorch/assets/reference").rglob("manifest.json"))
    found = [json.loads(path.read_text())["reference"]["system_info"] for path in manifests]
    assert len(found) >= 2
    assert all(map(llama_cpp_build.adds_in_the_order_we_know, found))


@pytest.mark.parametrize(
    "features",
    [
        f"{AVX2} | LLAMAFILE = 1",
        f"{AVX2} | AVX512 = 1",
        f"{AVX2} | AMX_INT8 = 1",
        "CPU : NEON = 1 | ARM_FMA = 1",
        "",
    ],
)
def test_builds_with_wider_vectors_or_llamafile_add_in_another_order(features: str) -> None:
    assert llama_cpp_build.adds_in_the_order_we_know(AVX2)
    assert not llama_cpp_build.adds_in_the_order_we_know(features)


@pytest.mark.skipif(bool(importlib.util.find_spec("llama_cpp")), reason="llama-cpp-python is installed")
def test_without_llama_cpp_the_command_says_how_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert llama_cpp_build.main([]) == 1
    assert "llorch[reference]" in capsys.readouterr().err
