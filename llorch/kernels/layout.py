"""Sizes that two sides share: what one kernel writes, or Python allocates, and another kernel reads."""

from __future__ import annotations

FLOAT_LANES = 16
"""float32 in a cache line; buffers of rows are padded to a multiple of it."""

TILE_ROWS = 16
"""Weight rows of a tile."""

CLAIMED_TILES = 4
"""Tiles a thread claims at a time when few tokens share them, or AMX does the work."""

CHUNK = 256
"""Columns of a row in which threads share it out to bring it into other forms; a multiple of every block size."""

CHUNKS_TOGETHER = 2
"""Most of them that a thread computes before it brings them into other forms: little enough to stay in the core's
cache, and whole groups of blocks (`emit.quantize`)."""

KV_BLOCK_SIZE = 32
"""Positions of a KV block."""

GROUP_ROWS = 16
"""Most rows of one sequence that attention handles together."""

ATTENTION_PART = 256
"""Positions of a part of a context: attention sums each part for itself, then adds the parts in order. A multiple of
the block size; results depend on it, and on nothing else that says who computes what."""


def ceil_div(n: int, divisor: int) -> int:
    """`n` / `divisor`, rounded up."""
    return (n + divisor - 1) // divisor


def round_up(n: int, multiple: int) -> int:
    """The first multiple of `multiple` that is not below `n`."""
    return (n + multiple - 1) // multiple * multiple


def padded_head_dim(head_dim: int) -> int:
    """`head_dim` rounded up to whole vectors; values of the cache and outputs of attention are stored that wide."""
    return round_up(head_dim, FLOAT_LANES)


def share_begin(n_tiles: int, node: int, n_nodes: int) -> int:
    """First tile of the share of a matrix that lies on NUMA node `node` of `n_nodes`."""
    return min((n_tiles * node // n_nodes + CLAIMED_TILES - 1) // CLAIMED_TILES * CLAIMED_TILES, n_tiles)
