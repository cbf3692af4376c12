"""Sizes that two sides share: what one kernel writes, or Python allocates, and another kernel reads."""

from __future__ import annotations

FLOAT_LANES = 16
"""float32 in a cache line; buffers of rows are padded to a multiple of it."""

TILE_ROWS = 16
"""Weight rows of a tile."""

CHUNK = 512
"""Columns of a row that one thread brings into other forms at a time; a multiple of every block size."""

KV_BLOCK_SIZE = 32
"""Positions of a KV block."""

GROUP_ROWS = 16
"""Most rows of one sequence that attention handles as one piece of work."""


def ceil_div(n: int, divisor: int) -> int:
    """`n` / `divisor`, rounded up."""
    return (n + divisor - 1) // divisor


def round_up(n: int, multiple: int) -> int:
    """The first multiple of `multiple` that is not below `n`."""
    return (n + multiple - 1) // multiple * multiple


def padded_head_dim(head_dim: int) -> int:
    """`head_dim` rounded up to whole vectors; values of the cache and outputs of attention are stored that wide."""
    return round_up(head_dim, FLOAT_LANES)
