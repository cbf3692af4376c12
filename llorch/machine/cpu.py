"""Which CPU this is, and whether the system lets a process use all of it."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from pathlib import Path


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


@functools.cache
def may_use_amx() -> bool:
    """Whether the system lets this process use AMX, which Linux wants to be asked; the answer holds for good.

    Without permission the first AMX instruction is an illegal one. Old kernels do not know the question,
    sandboxes may forbid it, and a thread with a small signal stack makes the answer no.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    try:
        return int(ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data)) == 0
    except (OSError, AttributeError):
        return False
