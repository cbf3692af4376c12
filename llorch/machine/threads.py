"""How many threads suit this process: CPU affinity, the control group's quota, physical cores."""

from __future__ import annotations

import math
import os
from pathlib import Path

from llorch.machine.cgroup import cpu_quota


def default_threads() -> tuple[int, str]:
    """Threads to compute with, and why: min(affinity, whole quota, physical cores), at least 1."""
    cpus = _affinity()
    physical = _physical(cpus)
    quota = cpu_quota()
    n = max(1, min(len(cpus), physical, math.floor(quota) if quota < 1e6 else len(cpus)))
    quota_text = "no quota" if quota > 1e6 else f"quota {quota:g}"
    return n, f"affinity {len(cpus)}, {quota_text}, physical cores {physical}"


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical(cpus: set[int]) -> int:
    """Physical cores among `cpus`; hyperthreads of one core count once."""
    cores = set()
    for number in cpus:
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text()
        except OSError:
            return len(cpus)
        cores.add(siblings.strip())
    return len(cores)
