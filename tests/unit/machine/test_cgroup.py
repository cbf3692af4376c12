"""What a control group grants, read from folders laid out as Linux lays them out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from llorch.machine import cgroup


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree in the place of /sys/fs/cgroup, of a process in the root group."""
    monkeypatch.setattr(
        cgroup, "_QUOTA_FILES", ((tmp_path, "cpu.max"), (tmp_path / "cpu", "cpu.cfs_quota_us"))
    )
    monkeypatch.setattr(
        cgroup,
        "_MEMORY_FILES",
        (
            (tmp_path, "memory.max", "memory.current"),
            (tmp_path / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
    )
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "cpus"),
    [
        ("150000 100000", 1.5),
        ("max 100000", math.inf),
        ("", math.inf),
        ("many 100000", math.inf),
        ("1 0", math.inf),
    ],
)
def test_the_quota_of_version_2(words: str, cpus: float, root: Path) -> None:
    (root / "cpu.max").write_text(words)
    assert cgroup.cpu_quota() == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("250000", 2.5), ("-1", math.inf)])
def test_the_quota_of_version_1(quota: str, cpus: float, root: Path) -> None:
    (root / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (root / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cgroup.cpu_quota() == cpus


def test_no_control_group_sets_no_limit(root: Path) -> None:
    assert cgroup.cpu_quota() == math.inf
    assert cgroup.memory_left() == math.inf


def test_page_cache_that_can_be_given_back_counts_as_left(root: Path) -> None:
    (root / "memory.max").write_text("1000")
    (root / "memory.current").write_text("700")
    (root / "memory.stat").write_text("anon 300\nactive_file 150\ninactive_file 250\n")
    assert cgroup.memory_left() == 1000 - 700 + 150 + 250


def test_the_memory_of_version_1(root: Path) -> None:
    (root / "memory" / "memory.limit_in_bytes").write_text("5000")
    (root / "memory" / "memory.usage_in_bytes").write_text("1000")
    (root / "memory" / "memory.stat").write_text("")
    assert cgroup.memory_left() == 4000


def test_a_group_without_a_limit_leaves_everything(root: Path) -> None:
    (root / "memory.max").write_text("max")
    assert cgroup.memory_left() == math.inf
