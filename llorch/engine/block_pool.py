"""Which blocks of the KV cache are free. Only their numbers are here; the arrays are `KVCache`'s."""

from __future__ import annotations

from llorch.errors import LlorchError


class BlockPool:
    """The free list of the KV cache.

    Attributes:
        n_blocks: blocks there are; they are numbered from 0.
        block_size: positions that a block holds.
    """

    def __init__(self, n_blocks: int, block_size: int) -> None:
        self.n_blocks = n_blocks
        self.block_size = block_size
        self._free = list(range(n_blocks - 1, -1, -1))

    @property
    def n_free(self) -> int:
        """Blocks that belong to no sequence."""
        return len(self._free)

    def blocks_for(self, n_positions: int) -> int:
        """Number of blocks that hold `n_positions` positions."""
        return -(-n_positions // self.block_size)

    def allocate(self, n: int) -> list[int]:
        """Take `n` blocks out of the pool.

        Raises:
            LlorchError: fewer than `n` are free; the pool is unchanged then.
        """
        if n > len(self._free):
            raise LlorchError(f"{n} KV blocks wanted, {len(self._free)} of {self.n_blocks} are free")
        return [self._free.pop() for _ in range(n)]

    def release(self, blocks: list[int]) -> None:
        """Put `blocks` back into the pool."""
        self._free.extend(reversed(blocks))
