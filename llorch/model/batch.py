"""The flat, ragged batch: any mix of prompt chunks and single decode steps, one row per token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass computes. Rows of one sequence stand in order of position.

    Attributes:
        token_ids: int32 (n_rows,).
        positions: int32 (n_rows,), index of each token in its sequence.
        slots: int32 (n_rows,), the row of `block_tables` that belongs to the token's sequence.
        block_tables: int32 (n_slots, n_blocks_per_sequence), KV block of every `kv_block_size` positions;
            entries past a sequence's last block are never read.
        output_rows: int32 (n_outputs,), ascending rows whose logits are wanted.
    """

    token_ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    slots: NDArray[np.int32]
    block_tables: NDArray[np.int32]
    output_rows: NDArray[np.int32]

    @property
    def n_rows(self) -> int:
        """Tokens in the batch."""
        return len(self.token_ids)
