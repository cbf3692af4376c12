"""Opening models without a tokenizer or an engine, and driving their forward pass row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import llorch.open_model
from llorch.conversation import Conversation
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.observe.probe import Probe
from llorch.open_model import OpenModel

Row = tuple[int, int, int]
"""(sequence, position, token id)"""


def open_model(path: Path, *, residence: str = "packed", n_threads: int = 1, **options: Any) -> OpenModel:
    """A model that computes, a context manager; `options` are `llorch.open_model`'s."""
    return llorch.open_model.open_model(
        path, with_tokenizer=False, weights=residence, n_threads=n_threads, **options
    )


class Run:
    """Sequences of one model. Blocks are dealt out in an order that no kernel may count on."""

    def __init__(
        self,
        llama: Llama,
        *,
        n_sequences: int = 4,
        n_positions: int = 256,
        kv_type: str = "f32",
        seed: int = 0,
    ) -> None:
        n_blocks = n_sequences * KVCache.blocks_for(n_positions)
        order = np.random.default_rng(seed).permutation(n_blocks)
        self.talk = Conversation(
            llama, n_positions, n_sequences=n_sequences, kv_type=kv_type, block_ids=order.tolist()
        )
        self.llama, self.cache, self.tables = llama, self.talk.cache, self.talk.block_tables

    def forward(
        self, rows: Sequence[Row], outputs: Sequence[int] | None = None, probe: Probe | None = None
    ) -> NDArray[np.float32]:
        """Logits of the rows (all of them, or those listed): float32 (n_outputs, n_vocab), a copy."""
        slots, positions, token_ids = np.array(rows, np.int32).T
        wanted = np.arange(len(rows)) if outputs is None else np.array(outputs)
        return self.talk.forward(token_ids, positions, slots, wanted.astype(np.int32), probe).copy()

    def prefill(
        self, token_ids: Sequence[int], sequence: int = 0, probe: Probe | None = None
    ) -> NDArray[np.float32]:
        """Logits of a whole sequence, in as few batches as the model takes."""
        return self.talk.feed(token_ids, sequence=sequence, all_rows=True, probe=probe)

    def cache_row(self, sequence: int, position: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys and values of one position: (n_layer, n_head_kv, head_dim) each, as they lie in the cache."""
        block, inside = self.tables[sequence, position // 32], position % 32
        keys = self.cache.keys[:, block, :, :, inside]
        values = self.cache.values[:, block, :, inside, : self.llama.config.head_dim]
        return keys, values
