"""How many threads suit this process: CPU affinity, the control group's quota, physical cores."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path

from llorch.machine.cgroup import cpu_quota

CPUS = Path("/sys/devices/system/cpu")


def default_threads(cpus: Collection[int] = ()) -> tuple[int, str]:
    """Threads to compute with, and why: min(CPUs, whole quota, physical cores), at least 1.

    Args:
        cpus: those to compute on; default: all that this process may use.
    """
    chosen = set(cpus) or allowed_cpus()
    physical = _physical(chosen)
    quota = cpu_quota()
    n = max(1, min(len(chosen), physical, math.floor(quota) if quota < 1e6 else len(chosen)))
    quota_text = "no quota" if quota > 1e6 else f"quota {quota:g}"
    source = "CPUs of the NUMA nodes" if cpus else "affinity"
    return n, f"{source} {len(chosen)}, {quota_text}, physical cores {physical}"


def allowed_cpus() -> set[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def core_of(cpu: int, folder: Path = CPUS) -> str | None:
    """The physical core of a CPU, by the list of all its CPUs; None where the system does not say."""
    try:
        return (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return None


def _physical(cpus: set[int]) -> int:
    """Physical cores among `cpus`; hyperthreads of one core count once."""
    cores = {core_of(cpu) for cpu in cpus}
    return len(cpus) if None in cores else len(cores)
