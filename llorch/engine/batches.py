"""From what a step computes of each sequence to the flat batch of the model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llorch.engine.scheduler import Chunk
from llorch.model.batch import Batch


def batch_of(chunks: Iterable[Chunk], block_tables: NDArray[np.int32]) -> Batch:
    """The batch of `chunks`.

    Args:
        chunks: what to compute.
        block_tables: int32 (n_slots, n_blocks_per_sequence), used and not copied.
    """
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    output_rows: list[int] = []
    for chunk in chunks:
        sequence = chunk.sequence
        begin, end = sequence.n_computed, sequence.n_computed + chunk.n_tokens
        token_ids += sequence.token_ids[begin:end]
        token_ids += chunk.draft
        n_rows = chunk.n_tokens + len(chunk.draft)
        positions += range(begin, begin + n_rows)
        slots += [sequence.slot] * n_rows
        output_rows += range(len(token_ids) - chunk.n_outputs, len(token_ids))
    return Batch(
        token_ids=np.array(token_ids, np.int32),
        positions=np.array(positions, np.int32),
        slots=np.array(slots, np.int32),
        block_tables=block_tables,
        output_rows=np.array(output_rows, np.int32),
    )
