"""The CPU's tick counter, for whoever has to map the kernels' stamps to a clock."""

from __future__ import annotations

from llorch.kernels.emit.scalars import ticks
from llorch.kernels.jit import unit


@unit("tick counter", 0)
def read_ticks():
    """The tick counter, as instructions are stamped with it."""
    return ticks()
