"""Numba kernels and the thread team that runs them: arrays in, `out` filled."""

from __future__ import annotations

from llorch.progress import Progress


def compile_all(progress: Progress | None = None) -> bool:
    """Load every kernel from the disk cache, or compile it; True when nothing had to be compiled.

    Args:
        progress: called with (what, done, total) before each piece and once at the end.
    """
    from llorch.kernels.team import compile_kernels

    return compile_kernels(progress)
