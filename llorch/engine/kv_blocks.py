"""The KV blocks of the running sequences: taken as they grow, shared where their beginnings are equal, given back.

Only full blocks are shared, and nobody writes into a full block again. `docs/engine.md` says how they are found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import Protocol

import numpy as np

from llorch.engine.block_pool import BlockPool
from llorch.engine.prefix_keys import first_key, next_key
from llorch.engine.sequence import Sequence

logger = logging.getLogger(__name__)

LOADS_PER_STEP = 8
"""Blocks read from the disk in one step; more would keep the running streams waiting."""


class BlockStore(Protocol):
    """Keeps copies of blocks beyond the KV cache: on disk."""

    def holds(self, key: bytes) -> bool:
        """Whether a copy of the block of this key is probably there."""

    def load(self, key: bytes, block: int) -> bool:
        """Fill `block` from its copy; False if that is gone or damaged."""

    def save(self, key: bytes, block: int) -> None:
        """Begin to keep a copy of `block`."""

    def note_use(self, keys: Items[bytes]) -> None:
        """The blocks of a text, the first first, were used now."""

    def drop(self, keys: Iterable[bytes]) -> None:
        """Keep the copies of these no longer."""


class KVBlocks:
    """Gives blocks to sequences and enters them into the block tables.

    Attributes:
        pool: counts the users of the blocks.
        tables: int32 (n_slots, n_blocks_per_sequence), the blocks of the sequence in each slot.
    """

    def __init__(
        self,
        pool: BlockPool,
        n_slots: int,
        n_blocks_per_sequence: int,
        *,
        keeps_prefixes: bool = True,
        store: BlockStore | None = None,
    ) -> None:
        """Set up.

        Args:
            pool: all its blocks are for the sequences.
            n_slots: sequences side by side.
            n_blocks_per_sequence: most blocks of one.
            keeps_prefixes: whether full blocks can be found by later sequences.
            store: keeps copies of them.
        """
        self.pool = pool
        self.tables = np.zeros((n_slots, n_blocks_per_sequence), np.int32)
        self._keeps_prefixes = keeps_prefixes
        self._store = store
        self._n_loads = 0

    def begin_step(self, running: Iterable[Sequence]) -> None:
        """Make known what the last step has filled."""
        self._n_loads = 0
        for sequence in running:
            self._name_filled(sequence)

    def n_wanted(self, sequence: Sequence) -> int:
        """Free blocks that a waiting sequence needs to compute its tokens and to begin its answer."""
        n_now = self.pool.blocks_for(len(sequence.token_ids))
        n_most = max(n_now, self.pool.blocks_for(sequence.n_positions))
        n_shared, n_readable = 0, self._n_readable(sequence) // self.pool.block_size
        while n_shared < n_readable and self.pool.is_used(self._key(sequence, n_shared)):
            n_shared += 1
        return min(n_now + 1, n_most) - n_shared

    def n_owed(self, sequence: Sequence) -> int:
        """Free blocks that a running sequence still needs for the tokens it has."""
        return max(self.pool.blocks_for(len(sequence.token_ids)) - len(sequence.kv_blocks), 0)

    def n_room(self, sequence: Sequence) -> int:
        """Positions that `sequence` may compute with its blocks and the free ones."""
        n_blocks = len(sequence.kv_blocks) + self.pool.n_free
        return n_blocks * self.pool.block_size - sequence.n_computed

    def grow(self, sequence: Sequence, n_tokens: int) -> None:
        """Give `sequence` the blocks for its next `n_tokens` tokens; there must be room."""
        held = len(sequence.kv_blocks)
        missing = self.pool.blocks_for(sequence.n_computed + n_tokens) - held
        if missing > 0:
            sequence.kv_blocks += self.pool.allocate(missing)
            self.tables[sequence.slot, held : held + missing] = sequence.kv_blocks[held:]

    def read_cache(self, sequence: Sequence) -> bool:
        """Count the tokens whose blocks can be found as computed.

        Returns:
            Whether it may go on with the next one; else that is on the disk, for another step.
        """
        size, limit = self.pool.block_size, self._n_readable(sequence)
        while sequence.n_computed % size == 0 and sequence.n_computed + size <= limit:
            i = sequence.n_computed // size
            key = self._key(sequence, i)
            block = self.pool.share(key)
            if block is None and self._store is not None and self._store.holds(key):
                if self._n_loads == LOADS_PER_STEP:
                    return False
                block = self._load(self._store, key)
            if block is None:
                break
            self._put(sequence, i, block)
            sequence.n_named = i + 1
            sequence.skip(size)
        return True

    def next_key(self, sequence: Sequence) -> bytes | None:
        """The key of the block that `sequence` would compute next, if it could as well be found."""
        i, begun = divmod(sequence.n_computed, self.pool.block_size)
        if begun or sequence.n_computed + self.pool.block_size > self._n_readable(sequence):
            return None
        return self._key(sequence, i)

    def keys_to_come(self, sequence: Sequence) -> list[bytes]:
        """Keys of the blocks that `sequence` will fill with the tokens it has."""
        if not self._keeps_prefixes:
            return []
        size = self.pool.block_size
        return [
            self._key(sequence, i)
            for i in range(sequence.n_computed // size, len(sequence.token_ids) // size)
        ]

    def release(self, sequence: Sequence) -> None:
        """Take all blocks of `sequence`; those it has filled can be found as long as they are not needed."""
        if not sequence.kv_blocks:
            return
        try:
            self._name_filled(sequence)
        except Exception as error:  # it is at its end, and must not hold its blocks for ever
            request = sequence.request
            logger.warning(
                "blocks of %s are not kept", request.job_id, exc_info=error, extra=request.log_fields
            )
        if self._store is not None:
            self._store.note_use(sequence.block_keys[: sequence.n_named])
        self.pool.release(sequence.kv_blocks)
        sequence.kv_blocks, sequence.n_named = [], 0

    def forget(self, sequence: Sequence) -> None:
        """Take all blocks of `sequence`, and let nobody find them: there may be nonsense in them."""
        keys = sequence.block_keys[: sequence.n_computed // self.pool.block_size]
        for key in keys:
            self.pool.forget(key)
        if self._store is not None:
            self._store.drop(keys)
        self.pool.release(sequence.kv_blocks)
        sequence.kv_blocks, sequence.n_named = [], 0

    def _n_readable(self, sequence: Sequence) -> int:
        """How many tokens it may find; the last is always computed, since its logits are wanted.

        What was computed for itself before it gave way, it may find in any case.
        """
        if not self._keeps_prefixes:
            return 0
        request = sequence.request
        wants_rows = request.n_prompt_logprobs is not None or request.states_to is not None
        last = len(sequence.token_ids) - 1
        return last if request.cache_prompt and not wants_rows else min(sequence.n_seen, last)

    def _key(self, sequence: Sequence, i: int) -> bytes:
        """The key of its block `i`."""
        keys, size = sequence.block_keys, self.pool.block_size
        while len(keys) <= i:
            begin = len(keys) * size
            before = keys[-1] if keys else first_key(sequence.request.owner)
            keys.append(next_key(before, sequence.token_ids[begin : begin + size]))
        return keys[i]

    def _name_filled(self, sequence: Sequence) -> None:
        if not self._keeps_prefixes:
            return
        for i in range(sequence.n_named, sequence.n_computed // self.pool.block_size):
            own, key = sequence.kv_blocks[i], self._key(sequence, i)
            known = self.pool.name(own, key)
            if known != own:  # somebody computed the same: a chain of keys must not outlive its beginning
                self._put(sequence, i, known)
            elif self._store is not None:
                self._store.save(key, own)
            sequence.n_named = i + 1

    def _put(self, sequence: Sequence, i: int, block: int) -> None:
        """Make `block`, which counts `sequence` as its user, its block `i`."""
        if i < len(sequence.kv_blocks):
            self.pool.release([sequence.kv_blocks[i]])
            sequence.kv_blocks[i] = block
        else:
            sequence.kv_blocks.append(block)
        self.tables[sequence.slot, i] = block

    def _load(self, store: BlockStore, key: bytes) -> int | None:
        """A block filled from the store; None if none is free, or the copy is of no use."""
        if not self.pool.n_free:
            return None
        self._n_loads += 1
        (block,) = self.pool.allocate(1)
        if store.load(key, block):
            return self.pool.name(block, key)
        self.pool.release([block])
        return None
