"""How much memory is left, and arrays that begin where a cache line or a huge page does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.machine.cgroup import memory_left

CACHE_LINE = 64
HUGE_PAGE = 2 << 20
MEMORY_INFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Bytes this process may still take: what the system or the control group leaves, whichever is less."""
    best = 1 << 62
    try:
        for line in MEMORY_INFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                best = int(line.split()[1]) * 1024
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            best = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return int(min(best, memory_left()))


def aligned_bytes(n: int, alignment: int = CACHE_LINE) -> NDArray[np.uint8]:
    """Uninitialised uint8 (n,) whose first byte lies on a multiple of `alignment`."""
    raw = np.empty(n + alignment, np.uint8)
    start = -int(raw.ctypes.data) % alignment
    return raw[start : start + n]


def aligned_zeros(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros of `shape` that begin with a cache line: a vector that lies in two costs two loads or stores."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    start = -int(raw.ctypes.data) % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def aligned_rows(n_rows: int, n: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros (n_rows, n), a view: rows that begin with a cache line and are an odd number of them apart.

    Else the same column of many rows, which products read and write one after the other, would share few sets of a
    cache, and displace each other: with rows of 6 KiB, two sets of 64.
    """
    per_line = CACHE_LINE // np.dtype(dtype).itemsize
    n_lines = -(-n // per_line) | 1
    return aligned_zeros((n_rows, n_lines * per_line), dtype)[:, :n]
