"""Kernel paths: which instructions the kernels use on this CPU; nothing here compiles anything.

`LLORCH_CPU` masks features so that every kernel path can be run on one machine: ``amx`` (all there is, the
default), ``avx512`` (no tile unit), ``avxvnni`` (256-bit dot products), ``avx2``; on ARM ``i8mm`` and ``neon``, which
is NEON with its dot products; ``generic``.
`LLORCH_SUMS=llama.cpp` replaces whatever adds floats by slow twins that do so in llama.cpp's order
(`llama_cpp_lanes`).
"""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from llorch.errors import SettingsError
from llorch.machine.cpu import arm_features, may_use_amx, model_name
from llorch.machine.threads import default_threads


@dataclass(frozen=True, slots=True)
class KernelPath:
    """What the integer products of one kind of CPU are made of.

    Attributes:
        name: as `LLORCH_CPU` spells it.
        needs: LLVM's names of the features it takes.
        hides: how the names of the features begin that are switched off when `LLORCH_CPU` asks for this path.
        dot: which instructions multiply int8: ``"vnni"``, ``"avx2"``, ``"neon"``, ``"i8mm"`` or ``"generic"``.
        lanes: rows of a weight tile that one vector holds.
        bias: added to each weight: `vpdpbusd` wants unsigned weights; sums start at -bias * sum(x) instead of 0.
        tile_bias: the part of the bias that tiles hold; AMX wants signed weights, so its path adds the bias on loading.
        shapes: vectors of rows of the micro-kernels for 1, 2, 3 ... tokens, sized to the registers; each of them takes
            the weights once, as they come from memory, and the last goes through a prompt. (1 x 8 against 2 x 6 on
            AVX-512, GMAC/s of two threads, 128 tokens: Q8_0 350 : 327, Q4_K 337 : 312; 1 x 10 and 1 x 12 are
            no faster.)
        expand_from: tokens from which bit planes are unpacked once into whole bytes in cache; none where the last shape
            does as well with planes. (Unpacked or not, 128 tokens: AVX-512 Q4_0 335 : 344, Q6_K 256 : 278, Q2_K 240 :
            276, Q5_1 250 : 241; AVX2 Q6_K 194 : 153, Q3_K 199 : 163.)
    """

    name: str
    needs: frozenset[str]
    hides: tuple[str, ...]
    dot: str
    lanes: int
    bias: int
    tile_bias: int
    shapes: tuple[int, ...]
    expand_from: int | None


_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "f16c", "fma"})
_AVX2 = frozenset({"avx2", "fma", "f16c"})
_AVX512_SHAPES = (4, 4, 1, 1, 1, 1, 1, 1)
_NEON = frozenset({"neon", "dotprod"})
_NEON_SHAPES = (4, 4, 2, 2)
_I8MM_SHAPES = (2, 4, 2, 2)
"""Of LLVM's code for Q8_0 no loop spills registers; with 6 tokens it takes 2 % more instructions for an output."""
_BEYOND_AVX2 = ("amx", "avx512", "evex512", "avx10")
_BEYOND_ARMV8 = ("dotprod", "i8mm", "bf16", "sve", "sme")
_BEYOND_SSE2 = ("amx", "avx", "evex512", "fma", "f16c", "ssse3", "sse4", "sse3", *_BEYOND_ARMV8)

KERNEL_PATHS = {
    path.name: path
    for path in (
        KernelPath("amx", _AVX512 | {"amx-tile", "amx-int8"}, (), "vnni", 16, 128, 0, _AVX512_SHAPES, None),
        KernelPath("avx512", _AVX512, ("amx",), "vnni", 16, 128, 128, _AVX512_SHAPES, None),
        KernelPath("avxvnni", _AVX2, _BEYOND_AVX2, "vnni", 8, 128, 128, (2, 2, 2, 2), 24),
        KernelPath("avx2", _AVX2, (*_BEYOND_AVX2, "avxvnni"), "avx2", 8, 0, 0, (2, 2, 1, 1), 24),
        KernelPath("i8mm", _NEON | {"i8mm"}, (), "i8mm", 4, 0, 0, _I8MM_SHAPES, 24),
        KernelPath("neon", _NEON, ("i8mm",), "neon", 4, 0, 0, _NEON_SHAPES, 24),
        KernelPath("generic", frozenset(), _BEYOND_SSE2, "generic", 8, 0, 0, (1, 1), 24),
    )
}
"""Best first of each architecture; those of another one need what this CPU does not have."""

PATHS = tuple(KERNEL_PATHS)
_MASK_VARIABLE = "LLORCH_CPU"
SUMS = ("llorch", "llama.cpp")
"""Orders in which floats are added: our own, the default, or llama.cpp's."""
_SUMS_VARIABLE = "LLORCH_SUMS"
VARIABLES = (_MASK_VARIABLE, _SUMS_VARIABLE)
"""Environment variables that choose kernels."""


@functools.cache
def _found_features() -> dict[str, bool]:
    """What LLVM and the system say about the features of this CPU: whether it has them."""
    try:
        found = dict(llvm.get_host_cpu_features())
    except RuntimeError:
        found = {}
    return {**found, **arm_features()}


def _host_features() -> frozenset[str]:
    return frozenset(name for name, on in _found_features().items() if on)


def is_masked() -> bool:
    """Whether `LLORCH_CPU` hides features of this CPU."""
    return bool(os.environ.get(_MASK_VARIABLE))


def must_tell_llvm() -> bool:
    """Whether LLVM has to be told the features, because it would look for others than `features`.

    On ARM it looks for a few only, and would stop the process at an instruction whose feature it does not know of.
    """
    return is_masked() or bool(arm_features())


def _chosen(variable: str, options: tuple[str, ...], what: str) -> str:
    """What an environment variable chooses; the first option when it is unset or empty."""
    wanted = os.environ.get(variable) or options[0]
    if wanted not in options:
        raise SettingsError(f"{variable}={wanted!r} is not {what}: expected one of {', '.join(options)}")
    return wanted


def _mask() -> str:
    return _chosen(_MASK_VARIABLE, PATHS, "a kernel path")


@functools.cache
def features() -> frozenset[str]:
    """LLVM's names of the CPU features in use, after the mask."""
    hidden = KERNEL_PATHS[_mask()].hides
    return frozenset(name for name in _host_features() if not name.startswith(hidden))


def has(feature: str) -> bool:
    """Whether LLVM's `feature` is in use."""
    return feature in features()


def host_name() -> str:
    """LLVM's name of the CPU the kernels are compiled for."""
    if not is_masked():
        return str(llvm.get_host_cpu_name())
    return "x86-64" if platform.machine().lower() in ("x86_64", "amd64") else "generic"


def llvm_features() -> str:
    """The feature string for LLVM: everything in use switched on, everything else off.

    A masked CPU has a name (`host_name`) that implies nothing; to others belongs what they turn out to lack, too.
    """
    on = features()
    names = _host_features() if is_masked() else _found_features()
    return ",".join(("+" if name in on else "-") + name for name in sorted(names))


@functools.cache
def chosen() -> KernelPath:
    """The best kernel path the CPU (after the mask) can run."""
    for name in PATHS[PATHS.index(_mask()) :]:
        candidate = KERNEL_PATHS[name]
        if not candidate.needs <= features():
            continue
        if name == "avxvnni" and not (has("avxvnni") or (has("avx512vnni") and has("avx512vl"))):
            continue
        if name == "amx" and not may_use_amx():
            continue
        return candidate
    return KERNEL_PATHS["generic"]


def path() -> str:
    """Name of the kernel path in use."""
    return chosen().name


@functools.cache
def sums() -> str:
    """Whose order of float additions the kernels follow, one of `SUMS`."""
    return _chosen(_SUMS_VARIABLE, SUMS, "an order of additions")


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
            f for f in features() if f.startswith(("amx", "avx", "fma", "f16c", "neon", "dotprod", "i8mm"))
        ),
        "default_threads": n,
        "default_threads_reason": reason,
    }
