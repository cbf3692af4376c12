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
        begin, n_tokens = sequence.n_computed, chunk.n_tokens
        if n_tokens == 1 and not chunk.draft:  # nearly always
            token_ids.append(sequence.token_ids[begin])
            positions.append(begin)
            slots.append(sequence.slot)
            if chunk.n_outputs:
                output_rows.append(len(token_ids) - 1)
            continue
        token_ids += sequence.token_ids[begin : begin + n_tokens]
        token_ids += chunk.draft
        n_rows = n_tokens + len(chunk.draft)
        positions += range(begin, begin + n_rows)
        slots += [sequence.slot] * n_rows
        output_rows += range(len(token_ids) - chunk.n_outputs, len(token_ids))
    rows = np.array([*token_ids, *positions, *slots, *output_rows], np.int32)
    return Batch(rows, len(token_ids), block_tables)
