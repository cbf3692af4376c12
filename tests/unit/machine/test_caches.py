"""The size of the last cache, as Linux describes caches."""

from __future__ import annotations

from pathlib import Path

from llorch.machine.caches import last_cache_bytes


def describe(cpus: Path, cpu: int, index: int, level: str, size: str, shared: str) -> None:
    folder = cpus / f"cpu{cpu}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    (folder / "level").write_text(f"{level}\n")
    (folder / "size").write_text(f"{size}\n")
    (folder / "shared_cpu_list").write_text(f"{shared}\n")


def test_caches_of_the_last_level_are_added_and_each_counts_once(tmp_path: Path) -> None:
    for cpu in range(4):
        describe(tmp_path, cpu, 0, "1", "32K", str(cpu))
        describe(tmp_path, cpu, 3, "3", "16M", "0-1" if cpu < 2 else "2-3")
    assert last_cache_bytes(tmp_path) == 2 * (16 << 20)


def test_what_is_not_described_counts_nothing(tmp_path: Path) -> None:
    assert last_cache_bytes(tmp_path) == 0
    describe(tmp_path, 0, 0, "1", "32K", "0")
    describe(tmp_path, 0, 1, "many", "1M", "0")
    describe(tmp_path, 0, 2, "2", "", "0")
    assert last_cache_bytes(tmp_path) == 32 << 10
