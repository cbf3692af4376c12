"""How long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is: ``("loading", 3, 10)``."""


def ignore_progress(what: str, done: int, total: int) -> None:
    """The `Progress` of a caller who does not want to know."""
