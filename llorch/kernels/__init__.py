"""Numba kernels, the objects that stand for weight formats and cache types, and the thread team that runs programs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llorch.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from llorch.kernels.jit import Unit

_HOLDERS = ("batch_rows", "candidates", "clock", "team", "weights.formats", "ops.add", "ops.attend", "ops.norm",
            "ops.prepare", "ops.rope", "ops.select", "ops.softmax", "ops.store", "ops.swiglu", "ops.values",
            "peaks")  # fmt: skip
"""Modules that, with what they import, declare every unit."""


def all_units() -> list[Unit]:
    """Every unit there is, for all weight formats, cache types and orders of addition."""
    from llorch.kernels.jit import declared_units

    for name in _HOLDERS:
        import_module(f"llorch.kernels.{name}")
    return declared_units()


def compile_all(progress: Progress = ignore_progress) -> bool:
    """Load every unit from the disk cache, or compile it; True when nothing had to be compiled.

    Args:
        progress: told the title of each unit.
    """
    from llorch.kernels.jit import load_units

    return load_units(all_units(), progress)
