"""Reading all chunks with a model and judging its predictions, as many chunks side by side as a batch holds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.errors import InputError
from llorch.machine.memory import available_memory
from llorch.model.kv_cache import KVCache
from llorch.model.llama import Llama
from llorch.quality.chunks import Chunks, pieces
from llorch.quality.log_softmax import for_all_rows

_LOGITS_BYTES = 64 << 20
"""Most that the logits of one forward pass take; a large vocabulary makes passes of fewer predictions."""


class Judge(Protocol):
    """What is made of the predictions, which are numbered through all chunks."""

    def take(self, first: int, logits: NDArray[np.float32], wanted: NDArray[np.int32]) -> None:
        """Judge some predictions. Threads call this for different ones at the same time.

        Args:
            first: number of the first of them.
            logits: float32 (n, n_vocab).
            wanted: int32 (n,), the tokens that do follow.
        """
        ...


def evaluate(
    llama: Llama, chunks: Chunks, judge: Judge, *, kv_type: str = "f16", begin: int = 0
) -> Iterator[int]:
    """Read the chunks from number `begin` on; yields how many are judged, all in all, after each forward pass.

    Raises:
        InputError: the KV cache of a single chunk does not fit the memory.
        NumericalError: the model computes NaN.
    """
    n_vocab = llama.config.n_vocab
    n_together = _sequences(llama, chunks, kv_type)
    talk = Conversation(llama, chunks.n_ctx, n_sequences=n_together, kv_type=kv_type)
    ids, wanted = chunks.read(), chunks.wanted()
    n_outputs = max(1, _LOGITS_BYTES // (4 * n_vocab))
    at = begin * chunks.n_counted
    with ThreadPoolExecutor(llama.n_threads) as pool:
        for piece in pieces(chunks, begin, llama.n_batch, n_outputs, n_together):
            slots = piece.chunks % np.int32(n_together)
            logits = talk.forward(
                ids[piece.chunks, piece.positions], piece.positions, slots, piece.output_rows
            )

            def work(rows: slice, at: int = at, logits: NDArray[np.float32] = logits) -> None:
                judge.take(at + rows.start, logits[rows], wanted[at + rows.start : at + rows.stop])

            for_all_rows(pool, work, len(logits), n_vocab)
            at += len(logits)
            yield at // chunks.n_counted


def _sequences(llama: Llama, chunks: Chunks, kv_type: str) -> int:
    """How many chunks a forward pass may hold parts of: as many as fill it, if the memory has room for their caches."""
    each = KVCache.blocks_for(chunks.n_ctx) * KVCache.bytes_per_block(llama.config, kv_type)
    free = available_memory()
    if each > free:
        raise InputError(
            f"a context of {chunks.n_ctx} tokens needs {each >> 20:,} MiB of KV cache, "
            f"{free >> 20:,} MiB of memory are free"
        )
    filling = llama.n_batch // (chunks.n_ctx - 1) + 2
    return min(filling, chunks.n_chunks, max(1, free // (2 * each)))
