"""What this CPU can do and how many threads suit it; nothing here compiles anything.

`LLORCH_CPU` masks features so that every kernel path can be run on one machine: ``amx`` (all there is, the
default), ``avx512`` (no tile unit), ``avxvnni`` (256-bit dot products), ``avx2``, ``generic``.
`LLORCH_SUMS=llama.cpp` replaces whatever adds floats by slow twins that do so in llama.cpp's order
(`llama_cpp_sums`).
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from llorch.errors import SettingsError

PATHS = ("amx", "avx512", "avxvnni", "avx2", "generic")
"""Kernel paths, best first."""

_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "f16c", "fma"}
_NEEDS = {
    "amx": _AVX512 | {"amx-tile", "amx-int8"},
    "avx512": _AVX512,
    "avxvnni": {"avx2", "fma", "f16c"},
    "avx2": {"avx2", "fma", "f16c"},
    "generic": set(),
}
_MASK_VARIABLE = "LLORCH_CPU"
SUMS = ("llorch", "llama.cpp")
"""Orders in which floats are added: our own, the default, or llama.cpp's."""
_SUMS_VARIABLE = "LLORCH_SUMS"
VARIABLES = (_MASK_VARIABLE, _SUMS_VARIABLE)
"""Environment variables that choose kernels."""


@functools.cache
def _host_features() -> frozenset[str]:
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:
        return frozenset()
    return frozenset(name for name, on in features.items() if on)


def is_masked() -> bool:
    """Whether `LLORCH_CPU` hides features of this CPU."""
    return bool(os.environ.get(_MASK_VARIABLE))


def _chosen(variable: str, options: tuple[str, ...], what: str) -> str:
    """What an environment variable chooses; the first option when it is unset or empty."""
    wanted = os.environ.get(variable) or options[0]
    if wanted not in options:
        raise SettingsError(f"{variable}={wanted!r} is not {what}: expected one of {', '.join(options)}")
    return wanted


def _mask() -> str:
    return _chosen(_MASK_VARIABLE, PATHS, "a kernel path")


@functools.cache
def may_use_tiles() -> bool:
    """Whether the system lets this process use AMX, which Linux wants to be asked; the answer holds for good.

    Without permission the first tile instruction is an illegal one. Old kernels do not know the question,
    sandboxes may forbid it, and a thread with a small signal stack makes the answer no.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    try:
        return int(ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data)) == 0
    except (OSError, AttributeError):
        return False


@functools.cache
def features() -> frozenset[str]:
    """LLVM's names of the CPU features in use, after the mask."""
    mask = _mask()
    found = _host_features()
    if mask == "amx":
        return found
    found = frozenset(name for name in found if not name.startswith("amx"))
    if mask == "avx512":
        return found
    kept = {name for name in found if not name.startswith(("avx512", "evex512", "avx10"))}
    if mask == "avxvnni":
        return frozenset(kept)
    kept -= {name for name in kept if name.startswith("avxvnni")}
    if mask == "avx2":
        return frozenset(kept)
    return frozenset(n for n in kept if not n.startswith(("avx", "fma", "f16c", "ssse3", "sse4", "sse3")))


def has(feature: str) -> bool:
    """Whether LLVM's `feature` is in use."""
    return feature in features()


def host_name() -> str:
    """LLVM's name of the CPU the kernels are compiled for."""
    if not is_masked():
        return str(llvm.get_host_cpu_name())
    return "x86-64" if platform.machine().lower() in ("x86_64", "amd64") else "generic"


def llvm_features() -> str:
    """The feature string for LLVM: everything in use switched on, everything else off."""
    on = features()
    return ",".join(("+" if name in on else "-") + name for name in sorted(_host_features()))


@functools.cache
def path() -> str:
    """The best kernel path the CPU (after the mask) can run."""
    mask = _mask()
    allowed = PATHS[PATHS.index(mask) :]
    for candidate in allowed:
        if not _NEEDS[candidate] <= features():
            continue
        if candidate == "avxvnni" and not (has("avxvnni") or (has("avx512vnni") and has("avx512vl"))):
            continue
        if candidate == "amx" and not may_use_tiles():
            continue
        return candidate
    return "generic"


@functools.cache
def sums() -> str:
    """Whose order of float additions the kernels follow, one of `SUMS`."""
    return _chosen(_SUMS_VARIABLE, SUMS, "an order of additions")


@functools.cache
def model_name() -> str:
    """The CPU's marketing name, or its architecture where the system does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _quota() -> float:
    """CPUs the control group may use (version 2 or 1), infinity without a limit."""
    best = math.inf
    try:
        own = [line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        own = []
    for base in {"/", *own}:
        for root, name in (("/sys/fs/cgroup", "cpu.max"), ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us")):
            folder = Path(root + base)
            while True:
                try:
                    words = (folder / name).read_text().split()
                    if name == "cpu.max":
                        quota, period = words[0], words[1]
                    else:
                        quota, period = words[0], (folder / "cpu.cfs_period_us").read_text()
                    if quota not in ("max", "-1"):
                        best = min(best, int(quota) / int(period))
                except (OSError, ValueError, IndexError):
                    pass
                if folder == Path(root) or folder == folder.parent:
                    break
                folder = folder.parent
    return best


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


def default_threads() -> tuple[int, str]:
    """Threads to compute with, and why: min(affinity, whole quota, physical cores), at least 1."""
    cpus = _affinity()
    physical = _physical(cpus)
    quota = _quota()
    n = max(1, min(len(cpus), physical, math.floor(quota) if quota < 1e6 else len(cpus)))
    quota_text = "no quota" if quota > 1e6 else f"quota {quota:g}"
    return n, f"affinity {len(cpus)}, {quota_text}, physical cores {physical}"


def describe() -> dict[str, Any]:
    """What `llorch inspect` and proof bundles say about the CPU and the kernels chosen."""
    n, reason = default_threads()
    return {
        "cpu": model_name(),
        "llvm_cpu": host_name(),
        "path": path(),
        "mask": os.environ.get(_MASK_VARIABLE) or None,
        "sums": sums(),
        "features": sorted(
            f for f in features() if f.startswith(("amx", "avx", "fma", "f16c", "neon", "dotprod"))
        ),
        "default_threads": n,
        "default_threads_reason": reason,
    }
