"""Who uses which block of the KV cache, and what is in it. Only numbers are here; the arrays are `KVCache`'s.

A block is free, used by one sequence or by several, or *kept*: nobody uses it, but its contents have a key by which a
later sequence may find them. Kept blocks are as good as free: when no other is left, the one that was used longest ago
is taken.
"""

from __future__ import annotations

from llorch.errors import LlorchError


class BlockPool:
    """Reference counts and keys of the blocks of a KV cache.

    Attributes:
        n_blocks: blocks there are; they are numbered from 0.
        block_size: positions that a block holds.
    """

    def __init__(self, n_blocks: int, block_size: int) -> None:
        self.n_blocks = n_blocks
        self.block_size = block_size
        self._free = list(range(n_blocks - 1, -1, -1))
        self._n_users = [0] * n_blocks
        self._keys: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}
        self._kept: dict[int, None] = {}  # in the order of their last use

    @property
    def n_free(self) -> int:
        """Blocks that no sequence uses, the kept ones among them."""
        return len(self._free) + len(self._kept)

    @property
    def n_kept(self) -> int:
        """Blocks that no sequence uses and whose contents can be found."""
        return len(self._kept)

    def blocks_for(self, n_positions: int) -> int:
        """Number of blocks that hold `n_positions` positions."""
        return -(-n_positions // self.block_size)

    def allocate(self, n: int) -> list[int]:
        """Take `n` blocks for one user.

        Raises:
            LlorchError: fewer than `n` are free; the pool is unchanged then.
        """
        if n > self.n_free:
            raise LlorchError(f"{n} KV blocks wanted, {self.n_free} of {self.n_blocks} are free")
        return [self._take() for _ in range(n)]

    def release(self, blocks: list[int]) -> None:
        """One user needs `blocks` no more.

        The last of them counts as used longest ago: what follows it in a text is never needed without it.

        Raises:
            LlorchError: nobody uses one of them.
        """
        for block in reversed(blocks):
            if not self._n_users[block]:
                raise LlorchError(f"KV block {block} has no user")
            self._n_users[block] -= 1
            if self._n_users[block]:
                continue
            if block in self._keys:
                self._kept[block] = None
            else:
                self._free.append(block)

    def is_used(self, key: bytes) -> bool:
        """Whether some sequence uses the block of this key, so that sharing it takes no free one."""
        block = self._blocks.get(key)
        return block is not None and self._n_users[block] > 0

    def share(self, key: bytes) -> int | None:
        """The block of this key, with one more user; None if there is none."""
        block = self._blocks.get(key)
        if block is not None:
            self._n_users[block] += 1
            self._kept.pop(block, None)
        return block

    def name(self, block: int, key: bytes) -> int:
        """Make the contents of `block`, which the caller uses and nobody will change, known by `key`.

        Returns:
            `block`; or another one that has this key already, with one more user.
        """
        known = self.share(key)
        if known is not None:
            return known
        self._blocks[key] = block
        self._keys[block] = key
        return block

    def forget(self, key: bytes) -> None:
        """Let nobody find the block of this key any more."""
        block = self._blocks.pop(key, None)
        if block is None:
            return
        del self._keys[block]
        if block in self._kept:
            del self._kept[block]
            self._free.append(block)

    def _take(self) -> int:
        if not self._free:
            self.forget(self._keys[next(iter(self._kept))])
        block = self._free.pop()
        self._n_users[block] = 1
        return block
