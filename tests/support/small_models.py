"""Opening models without a tokenizer or an engine, and driving their forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.formats.source import ModelSource, open_source
from llorch.model.batch import Batch
from llorch.model.config import ModelConfig
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.model.weights import Weights
from llorch.observe.probe import Probe

Row = tuple[int, int, int]
"""(sequence, position, token id)"""


@dataclass
class OpenModel:
    """A running model and its file."""

    source: ModelSource
    config: ModelConfig
    weights: Weights
    llama: Llama

    def run(self) -> Run:
        """Fresh sequences in a cache of their own."""
        return Run(self.llama)


@contextmanager
def open_model(path: Path, **options: Any) -> Iterator[OpenModel]:
    """A model that computes; `options` are `Llama`'s."""
    source = open_source(path)
    try:
        config = ModelConfig.from_metadata(source.metadata)
        weights = Weights.from_tensors(config, source.tensors)
        defaults: dict[str, Any] = {"n_threads": 1, "residence": "packed"}
        llama = Llama(config, weights, **(defaults | options))
        try:
            yield OpenModel(source, config, weights, llama)
        finally:
            llama.close()
    finally:
        source.close()


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
        self.llama = llama
        n_blocks = KVCache.blocks_for(n_positions)
        self.cache = KVCache(llama.config, n_sequences * n_blocks, kv_type)
        order = np.random.default_rng(seed).permutation(n_sequences * n_blocks)
        self.tables = order.reshape(n_sequences, n_blocks).astype(np.int32)

    def forward(
        self, rows: Sequence[Row], outputs: Sequence[int] | None = None, probe: Probe | None = None
    ) -> NDArray[np.float32]:
        """Logits of the rows (all of them, or those listed): float32 (n_outputs, n_vocab), a copy."""
        slots, positions, token_ids = np.array(rows, np.int32).T
        wanted = np.arange(len(rows)) if outputs is None else np.array(outputs)
        batch = Batch(token_ids, positions, slots, self.tables, wanted.astype(np.int32))
        return self.llama.forward(batch, self.cache, probe).copy()

    def prefill(
        self, token_ids: Sequence[int], sequence: int = 0, probe: Probe | None = None
    ) -> NDArray[np.float32]:
        """Logits of a whole sequence, in as few batches as the model takes."""
        rows = [(sequence, position, token) for position, token in enumerate(token_ids)]
        step = self.llama.n_batch
        return np.concatenate(
            [self.forward(rows[i : i + step], None, probe) for i in range(0, len(rows), step)]
        )

    def cache_row(self, sequence: int, position: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys and values of one position: (n_layer, n_head_kv, head_dim) each, as they lie in the cache."""
        block, inside = self.tables[sequence, position // 32], position % 32
        keys = self.cache.keys[:, block, :, :, inside]
        values = self.cache.values[:, block, :, inside, : self.llama.config.head_dim]
        return keys, values
