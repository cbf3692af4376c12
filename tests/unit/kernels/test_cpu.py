"""Which path a CPU gets, how features are masked, and how many threads suit it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from llorch.errors import SettingsError
from llorch.kernels import cpu

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


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for cached in (cpu.features, cpu.path):
        cached.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for cached in (cpu.features, cpu.path):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("host", "mask", "path"),
    [(CASCADE_LAKE, "", "avx512"), (ALDER_LAKE, "", "avxvnni"), (HASWELL, "", "avx2"), (SKYLAKE_X, "", "avx2"),
     ({"sse4.2"}, "", "generic"), ({"neon", "dotprod"}, "", "generic"),
     (CASCADE_LAKE, "avx2", "avx2"), (CASCADE_LAKE, "generic", "generic"),
     (CASCADE_LAKE | {"avxvnni"}, "avxvnni", "avxvnni"), (ALDER_LAKE, "avx512", "avxvnni"),
     (HASWELL, "avxvnni", "avx2")],
)  # fmt: skip
def test_the_best_path_that_cpu_and_mask_allow(
    host: set[str], mask: str, path: str, fresh: pytest.MonkeyPatch
) -> None:
    fresh.setattr(cpu, "_host_features", lambda: frozenset(host))
    fresh.setenv("LLORCH_CPU", mask)
    assert cpu.path() == path


def test_masked_features_are_switched_off_for_llvm(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(cpu, "_host_features", lambda: frozenset(CASCADE_LAKE))
    fresh.setenv("LLORCH_CPU", "avx2")
    wanted = cpu.llvm_features().split(",")
    assert "+avx2" in wanted
    assert {f"-{name}" for name in CASCADE_LAKE if name.startswith("avx512")} <= set(wanted)
    assert cpu.is_masked()
    assert cpu.host_name() in ("x86-64", "generic")


def test_an_unknown_mask_is_refused(fresh: pytest.MonkeyPatch) -> None:
    fresh.setenv("LLORCH_CPU", "avx1024")
    with pytest.raises(SettingsError, match="avx1024"):
        cpu.path()


@pytest.mark.parametrize(
    ("affinity", "quota", "physical", "n"),
    [(8, math.inf, 4, 4), (8, 2.5, 4, 2), (1, math.inf, 1, 1), (8, 0.5, 4, 1), (2, 16.0, 2, 2)],
)
def test_threads_fit_affinity_quota_and_cores(
    affinity: int, quota: float, physical: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_affinity", lambda: set(range(affinity)))
    monkeypatch.setattr(cpu, "_quota", lambda: quota)
    monkeypatch.setattr(cpu, "_physical", lambda cpus: physical)
    chosen, reason = cpu.default_threads()
    assert chosen == n
    assert str(affinity) in reason


def test_this_machine_is_described() -> None:
    told = cpu.describe()
    assert told["path"] in cpu.PATHS
    assert told["default_threads"] >= 1
    assert told["cpu"]
