"""Is Ray Serve installed, and new enough? Asked before anything imports it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

MIN_RAY = (2, 56)
"""Routers of one's own, autoscaling policies and `record_autoscaling_stats` work as described from this version on."""

INSTALL = "pip install 'llorch[ray]'"


def check_ray() -> None:
    """Refuse to go on without Ray Serve.

    Raises:
        ImportError: Ray is absent, too old, or installed without its `serve` extra.
    """
    wanted = f"llorch.ray_serve needs Ray Serve {MIN_RAY[0]}.{MIN_RAY[1]} or newer"
    try:
        found = version("ray")
    except PackageNotFoundError:
        raise ImportError(f"{wanted}, and Ray is not installed: {INSTALL}") from None
    if _numbers(found) < MIN_RAY:
        raise ImportError(f"{wanted}, and Ray {found} is installed: {INSTALL}")
    try:
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{wanted}, and Ray {found} is installed without it ({error}): {INSTALL}") from None


def _numbers(text: str) -> tuple[int, ...]:
    """The first two numbers of a version: ``"2.56.1rc1"`` is ``(2, 56)``."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])
