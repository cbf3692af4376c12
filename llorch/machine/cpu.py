"""Which CPU this is, and whether the system lets a process use all of it."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


_LINUX_FEATURES = {(16, 1 << 20): "dotprod", (26, 1 << 13): "i8mm"}
"""LLVM's names by entry of the auxiliary vector (AT_HWCAP, AT_HWCAP2) and bit (`asm/hwcap.h` of arm64)."""

_DARWIN_FEATURES = {"FEAT_DotProd": "dotprod", "FEAT_I8MM": "i8mm"}
"""LLVM's names by what follows ``hw.optional.arm.`` among the system's values."""


@functools.cache
def arm_features() -> Mapping[str, bool]:
    """Features of an ARM CPU by LLVM's names, and whether they may be used; nothing about other CPUs.

    The system's answer, which LLVM 22 does not ask for: it reads the features of Linux from `/proc/cpuinfo`, without
    dot products among them, and believes that a CPU whose name it knows has all that such CPUs have. NEON is part of
    every 64-bit ARM CPU, whatever the system says.
    """
    if platform.machine().lower() not in ("aarch64", "arm64"):
        return {}
    found = {}
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            found = {name: _is_set_on_darwin(library, key) for key, name in _DARWIN_FEATURES.items()}
        else:
            library.getauxval.restype = ctypes.c_ulong
            found = {name: bool(library.getauxval(at) & bit) for (at, bit), name in _LINUX_FEATURES.items()}
    except (OSError, AttributeError):
        pass
    return {**found, "neon": True}


def _is_set_on_darwin(library: Any, key: str) -> bool:
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    name = f"hw.optional.arm.{key}".encode()
    asked = library.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0)
    return bool(asked == 0 and value.value == 1)


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
