"""Which path a CPU gets, and how features are masked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from llorch.errors import SettingsError
from llorch.kernels import object_cache, paths
from llorch.machine.cpu import model_name
from llorch.machine.threads import default_threads
from tests.conftest import REPOSITORY

CASCADE_LAKE = {
    "avx",
    "avx2",
    "fma",
    "f16c",
    "sse4.2",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512vnni",
}
ALDER_LAKE = {"avx", "avx2", "fma", "f16c", "sse4.2", "avxvnni"}
HASWELL = {"avx", "avx2", "fma", "f16c", "sse4.2"}
SKYLAKE_X = CASCADE_LAKE - {"avx512vnni"}
GRAVITON_2 = {"neon", "dotprod", "crc", "lse"}
GRAVITON_3 = GRAVITON_2 | {"i8mm", "bf16", "sve"}
SAPPHIRE_RAPIDS = CASCADE_LAKE | {"avxvnni", "amx-tile", "amx-int8", "amx-bf16"}


CACHED: tuple[Any, ...] = (paths._found_features, paths.features, paths.chosen)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for cached in CACHED:
        cached.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for cached in CACHED:
        cached.cache_clear()


@pytest.mark.parametrize(
    ("host", "mask", "path"),
    [(CASCADE_LAKE, "", "avx512"), (ALDER_LAKE, "", "avxvnni"), (HASWELL, "", "avx2"), (SKYLAKE_X, "", "avx2"),
     ({"sse4.2"}, "", "generic"), ({"neon"}, "", "generic"), (GRAVITON_2, "", "neon"),
     (GRAVITON_3, "", "i8mm"), (GRAVITON_3, "neon", "neon"), (GRAVITON_3, "generic", "generic"),
     (GRAVITON_3, "avx2", "i8mm"), (GRAVITON_2, "i8mm", "neon"), (SAPPHIRE_RAPIDS, "i8mm", "generic"),
     (SAPPHIRE_RAPIDS, "neon", "generic"),
     (CASCADE_LAKE, "avx2", "avx2"), (CASCADE_LAKE, "generic", "generic"),
     (CASCADE_LAKE | {"avxvnni"}, "avxvnni", "avxvnni"), (ALDER_LAKE, "avx512", "avxvnni"),
     (HASWELL, "avxvnni", "avx2"), (SAPPHIRE_RAPIDS, "", "amx"), (SAPPHIRE_RAPIDS, "avx512", "avx512"),
     (SAPPHIRE_RAPIDS, "avx2", "avx2"), (CASCADE_LAKE | {"amx-tile"}, "", "avx512"), (CASCADE_LAKE, "amx", "avx512")],
)  # fmt: skip
def test_the_best_path_that_cpu_and_mask_allow(
    host: set[str], mask: str, path: str, fresh: pytest.MonkeyPatch
) -> None:
    fresh.setattr(paths, "_host_features", lambda: frozenset(host))
    fresh.setattr(paths, "may_use_amx", lambda: True)
    fresh.setenv("LLORCH_CPU", mask)
    assert paths.path() == path


def test_amx_that_the_system_does_not_permit_is_left_alone(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(paths, "_host_features", lambda: frozenset(SAPPHIRE_RAPIDS))
    fresh.setattr(paths, "may_use_amx", lambda: False)
    fresh.delenv("LLORCH_CPU", raising=False)
    assert paths.path() == "avx512"
    refused = object_cache.cache_key()
    fresh.setattr(paths, "may_use_amx", lambda: True)
    paths.chosen.cache_clear()
    assert object_cache.cache_key() != refused, (
        "machine code with AMX instructions would reach a process that must not run them"
    )


def test_no_permission_is_a_plain_no() -> None:
    """Linux refuses when a signal stack has no room for the tiles: here the smallest one there is."""
    code = (
        "import ctypes; stack = ctypes.create_string_buffer(2048);"
        "words = (ctypes.c_void_p * 3)(ctypes.addressof(stack), 0, 2048);"
        "failed = ctypes.CDLL(None).sigaltstack(words, None);"
        "from llorch.kernels import paths; print(failed, paths.may_use_amx(), paths.path())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "LLORCH_CPU"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    failed, may, path = done.stdout.split()
    if failed != "0":
        pytest.skip("this system has no such small signal stacks")
    assert may == "False"
    assert path in paths.PATHS[1:]


def test_masked_features_are_switched_off_for_llvm(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(paths, "_host_features", lambda: frozenset(CASCADE_LAKE))
    fresh.setenv("LLORCH_CPU", "avx2")
    wanted = paths.llvm_features().split(",")
    assert "+avx2" in wanted
    assert {f"-{name}" for name in CASCADE_LAKE if name.startswith("avx512")} <= set(wanted)
    fresh.setenv("LLORCH_CPU", "avx512")
    fresh.setattr(paths, "_host_features", lambda: frozenset(SAPPHIRE_RAPIDS))
    paths.features.cache_clear()
    wanted = paths.llvm_features().split(",")
    assert {"+avx512vnni", "-amx-tile", "-amx-int8", "-amx-bf16"} <= set(wanted)
    assert paths.is_masked()
    assert paths.host_name() in ("x86-64", "generic")


def test_arm_s_masked_features_are_switched_off_and_neon_is_not(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(paths, "_host_features", lambda: frozenset(GRAVITON_3))
    fresh.setenv("LLORCH_CPU", "generic")
    wanted = paths.llvm_features().split(",")
    assert {"-dotprod", "-i8mm", "-bf16", "-sve", "+neon"} <= set(wanted)
    paths.features.cache_clear()
    fresh.setenv("LLORCH_CPU", "neon")
    wanted = paths.llvm_features().split(",")
    assert {"+dotprod", "-i8mm", "+neon"} <= set(wanted)


def test_llvm_is_told_the_features_of_an_arm_cpu(fresh: pytest.MonkeyPatch) -> None:
    fresh.delenv("LLORCH_CPU", raising=False)
    fresh.setattr(paths, "arm_features", dict)
    assert not paths.must_tell_llvm()
    fresh.setattr(paths, "arm_features", lambda: {"neon": True, "dotprod": True, "i8mm": False})
    fresh.setattr("llorch.kernels.paths.llvm.get_host_cpu_features", lambda: {"crc": True, "sve": False})
    assert paths.must_tell_llvm()
    assert paths.features() == {"neon", "dotprod", "crc"}
    assert paths.llvm_features() == "+crc,+dotprod,-i8mm,+neon,-sve"


def test_an_unknown_mask_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("LLORCH_CPU", "avx1024")
    with pytest.raises(SettingsError, match="avx1024"):
        paths.path()


def test_this_machine_is_described() -> None:
    told = paths.describe()
    assert told["path"] == paths.path()
    assert told["features"] == sorted(told["features"])
    assert set(told["features"]) <= paths.features()
    assert (told["default_threads"], told["default_threads_reason"]) == default_threads()
    assert told["cpu"] == model_name()
