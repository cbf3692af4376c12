"""What a step reads of a batch, in arrays that stay where they are from step to step."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.batch_rows import TASK_FIELDS, check_rows
from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_parts import MOST_ROW_PARTS
from llorch.model.attention_tasks import attention_tasks
from llorch.model.batch import Batch


class StepInputs:
    """Copies batches to where the kernels find them, and refuses those that point elsewhere.

    NumPy is asked for addresses once and for all: that takes a microsecond, and several in the cold caches that a step
    leaves.
    """

    def __init__(
        self, step: NDArray[np.int64], n_batch: int, n_vocab: int, n_head_kv: int, n_threads: int
    ) -> None:
        """Set up.

        Args:
            step: int64 (STEP_SIZE,), gets the addresses now and the counts with each batch.
            n_batch: most rows of a batch.
            n_vocab: token ids are below it.
            n_head_kv: KV heads.
            n_threads: most threads of a step.
        """
        self._step = step
        self._n_head_kv, self._n_threads = n_head_kv, n_threads
        self._limits = sys.maxsize if n_threads == 1 else ATTENTION_PART, n_vocab, 0, 0
        self._values = np.zeros(4 * n_batch, np.int32)
        self._noted = np.zeros(2 + 2 * n_batch, np.int32)
        self._tasks = np.zeros((n_batch + MOST_ROW_PARTS, TASK_FIELDS), np.int32)
        arrays = step, self._values, self._tasks, self._noted  # as `check_rows` takes them
        self._addresses = tuple(int(array.ctypes.data) for array in arrays)
        step[st.TASKS] = self._addresses[2]
        self._tables: NDArray[np.int32] = np.zeros((0, 0), np.int32)

    def fill(self, batch: Batch) -> int:
        """Take over `batch`, whose rows are counted already.

        Returns:
            Its last position.

        Raises:
            ValueError: something points outside the vocabulary, the tables or the batch.
        """
        self._values[: len(batch.rows)] = batch.rows
        if batch.block_tables is not self._tables:
            self._point_to(batch.block_tables)
        found = check_rows(*self._addresses, batch.n_rows, batch.n_outputs, *self._limits)
        if found < 0:
            raise ValueError(_fault(batch, self._limits[1]))
        if not found & 0xFFFFFFFF:
            split = attention_tasks(batch.positions, batch.slots, self._n_head_kv, self._n_threads)
            self._tasks[: len(split)] = split
            self._step[st.N_TASKS] = self._noted[0] = len(split)
        return found >> 32

    def _point_to(self, block_tables: NDArray[np.int32]) -> None:
        """Have the step read these tables; those of an engine are the same array in every step."""
        self._tables = tables = np.ascontiguousarray(block_tables, np.int32)
        self._limits = *self._limits[:2], tables.shape[1] * KV_BLOCK_SIZE, len(tables)
        self._step[st.TABLES], self._step[st.TABLE_STRIDE] = tables.ctypes.data, tables.strides[0]


def _fault(batch: Batch, n_vocab: int) -> str:
    """What points outside; whose blocks they are is the caller's care."""
    n_slots, n_blocks = batch.block_tables.shape
    for name, values, limit in (
        ("token_ids", batch.token_ids, n_vocab),
        ("positions", batch.positions, n_blocks * KV_BLOCK_SIZE),
        ("slots", batch.slots, n_slots),
    ):
        if not (values.min() >= 0 and values.max() < limit):
            return f"{name}: expected 0 to {limit - 1}, got {values.min()} to {values.max()}"
    rows = batch.output_rows
    return f"output_rows: expected 0 to {batch.n_rows - 1}, got {rows.min()} to {rows.max()}"
