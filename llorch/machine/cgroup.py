"""What the control group grants: a share of the CPUs and a part of the memory (versions 2 and 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_QUOTA_FILES = ((ROOT, "cpu.max"), (ROOT / "cpu", "cpu.cfs_quota_us"))
_MEMORY_FILES = (
    (ROOT, "memory.max", "memory.current"),
    (ROOT / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def cpu_quota() -> float:
    """CPUs the control group may use, the least of its own and its parents'; infinity without a limit."""
    return min((_quota(file) for file in _quota_files()), default=math.inf)


def memory_left() -> float:
    """Bytes of the control group's memory that are not taken; infinity without a limit."""
    left = math.inf
    for folder, limit_name, used_name in _MEMORY_FILES:
        try:
            limit = (folder / limit_name).read_text().strip()
            if limit != "max":
                used = int((folder / used_name).read_text())
                left = min(left, int(limit) - used + _file_cache(folder / "memory.stat"))
        except (OSError, ValueError):
            continue
    return left


def _quota_files() -> Iterator[Path]:
    """The files that may hold a quota for this process, from its own group up to the root."""
    try:
        own = [line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except (OSError, IndexError):
        own = []
    for base in {"/", *own}:
        for root, name in _QUOTA_FILES:
            folder = Path(f"{root}{base}")
            while folder != root and folder != folder.parent:
                yield folder / name
                folder = folder.parent
            yield folder / name


def _quota(file: Path) -> float:
    try:
        words = file.read_text().split()
        if file.name != "cpu.max":
            words.append((file.parent / "cpu.cfs_period_us").read_text())
        return math.inf if words[0] in ("max", "-1") else int(words[0]) / int(words[1])
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return math.inf


def _file_cache(statistics: Path) -> int:
    """Page cache charged to the control group: counted as used, but given back on demand."""
    lines = (line.split() for line in statistics.read_text().splitlines())
    return sum(int(words[1]) for words in lines if words[0] in ("inactive_file", "active_file"))
