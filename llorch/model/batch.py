"""The flat, ragged batch: any mix of prompt chunks and single decode steps, one row per token."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray


class Batch:
    """What one forward pass computes. Rows of one sequence stand in order of position.

    Attributes:
        rows: int32 (3 * n_rows + n_outputs,), token ids, positions, slots and output rows, as kernels read them.
        n_rows: tokens in the batch.
        block_tables: int32 (n_slots, n_blocks_per_sequence), KV block of every `kv_block_size` positions;
            entries past a sequence's last block are never read.
    """

    __slots__ = ("block_tables", "n_rows", "rows")

    def __init__(self, rows: NDArray[np.int32], n_rows: int, block_tables: NDArray[np.int32]) -> None:
        self.rows, self.n_rows, self.block_tables = rows, n_rows, block_tables

    @classmethod
    def of(
        cls,
        token_ids: NDArray[np.int32],
        positions: NDArray[np.int32],
        slots: NDArray[np.int32],
        block_tables: NDArray[np.int32],
        output_rows: NDArray[np.int32],
    ) -> Self:
        """The batch of the attributes of these names.

        Raises:
            ValueError: the first three are not as many of each.
            TypeError: not every number of them is an int32.
        """
        if not len(token_ids) == len(positions) == len(slots):
            raise ValueError("token_ids, positions and slots: expected as many of each")
        arrays = token_ids, positions, slots, output_rows
        return cls(np.concatenate(arrays, dtype=np.int32, casting="safe"), len(token_ids), block_tables)

    @property
    def token_ids(self) -> NDArray[np.int32]:
        """int32 (n_rows,), a view."""
        return self.rows[: self.n_rows]

    @property
    def positions(self) -> NDArray[np.int32]:
        """int32 (n_rows,), a view: index of each token in its sequence."""
        return self.rows[self.n_rows : 2 * self.n_rows]

    @property
    def slots(self) -> NDArray[np.int32]:
        """int32 (n_rows,), a view: the row of `block_tables` that belongs to the token's sequence."""
        return self.rows[2 * self.n_rows : 3 * self.n_rows]

    @property
    def output_rows(self) -> NDArray[np.int32]:
        """int32 (n_outputs,), a view: ascending rows whose logits are wanted."""
        return self.rows[3 * self.n_rows :]

    @property
    def n_outputs(self) -> int:
        """Rows whose logits are wanted."""
        return len(self.rows) - 3 * self.n_rows
