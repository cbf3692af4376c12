"""Sequences in a KV cache of their own, fed by hand: for measuring and validating, where no engine decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.model.batch import Batch
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.observe.probe import Probe


class Conversation:
    """`n_sequences` sequences of up to `n_positions` tokens each; one unless asked for more.

    Attributes:
        cache: keys and values of all of them.
        block_tables: int32 (n_sequences, n_blocks_per_sequence), the blocks of each in order of position.
    """

    def __init__(
        self,
        llama: Llama,
        n_positions: int,
        *,
        n_sequences: int = 1,
        kv_type: str = "f32",
        block_ids: Sequence[int] | None = None,
    ) -> None:
        """Allocate the cache.

        Args:
            llama: the model.
            n_positions: most tokens of a sequence.
            n_sequences: sequences side by side.
            kv_type: number type of the cache.
            block_ids: the order in which blocks are dealt out; default: ascending.
        """
        self._llama = llama
        per_sequence = KVCache.blocks_for(n_positions)
        self.cache = KVCache(llama.config, n_sequences * per_sequence, kv_type)
        order = np.arange(self.cache.n_blocks) if block_ids is None else np.array(block_ids)
        self.block_tables = order.reshape(n_sequences, per_sequence).astype(np.int32)

    def forward(
        self,
        token_ids: NDArray[np.int32],
        positions: NDArray[np.int32],
        slots: NDArray[np.int32],
        output_rows: NDArray[np.int32],
        probe: Probe | None = None,
    ) -> NDArray[np.float32]:
        """Compute one batch; arguments as in `Batch`. Logits are float32 (n_outputs, n_vocab), valid until the next."""
        batch = Batch.of(token_ids, positions, slots, self.block_tables, output_rows)
        return self._llama.forward(batch, self.cache, probe)

    def feed(
        self,
        token_ids: Sequence[int] | NDArray[np.int32],
        position: int = 0,
        *,
        sequence: int = 0,
        all_rows: bool = False,
        probe: Probe | None = None,
    ) -> NDArray[np.float32]:
        """Compute tokens of one sequence, in as many batches as they need.

        Args:
            token_ids: at least one.
            position: of the first of them.
            sequence: whose they are.
            all_rows: whether the logits of every token are wanted, instead of the last one's.
            probe: sees named intermediates of each batch.

        Returns:
            A copy of the logits: float32 (n_tokens or 1, n_vocab).
        """
        ids = np.asarray(token_ids, np.int32)
        logits = []
        for first in range(0, len(ids), self._llama.n_batch):
            part = ids[first : first + self._llama.n_batch]
            rows = np.arange(len(part), dtype=np.int32)
            is_last = first + len(part) == len(ids)
            wanted = rows if all_rows else rows[-1:] if is_last else rows[:0]
            slots = np.full_like(rows, sequence)
            out = self.forward(part, rows + np.int32(position + first), slots, wanted, probe)
            logits.append(out.copy())
        return np.concatenate(logits)

    def feed_each(self, token_ids: NDArray[np.int32], position: int) -> NDArray[np.float32]:
        """Compute one token of every sequence, all at `position`.

        Args:
            token_ids: int32 (n_sequences,).
            position: of each of them in its sequence.

        Returns:
            Logits, float32 (n_sequences, n_vocab), valid until the next call.
        """
        slots = np.arange(len(token_ids), dtype=np.int32)
        return self.forward(token_ids, np.full_like(slots, position), slots, slots)

    def keys(self, layer: int, n: int, sequence: int = 0) -> NDArray[np.float32]:
        """The first `n` keys of a layer: float32 (n, n_head_kv, head_dim), a copy."""
        blocks = self.cache.keys[layer, self.block_tables[sequence]]  # (block, head, dim, position in block)
        rows = blocks.transpose(0, 3, 1, 2).reshape(-1, *blocks.shape[1:3])
        return np.ascontiguousarray(rows[:n], np.float32)

    def values(self, layer: int, n: int, sequence: int = 0) -> NDArray[np.float32]:
        """The first `n` values of a layer: float32 (n, n_head_kv, head_dim), a copy."""
        blocks = self.cache.values[
            layer, self.block_tables[sequence]
        ]  # (block, head, position in block, dim)
        rows = blocks.transpose(0, 2, 1, 3).reshape(-1, blocks.shape[1], blocks.shape[3])
        return np.ascontiguousarray(rows[:n, :, : self._llama.config.head_dim], np.float32)
