"""What a step reads of a batch, in arrays that stay where they are from step to step."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.batch_rows import TASK_FIELDS, check_rows
from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_parts import MOST_ROW_PARTS
from llorch.model.attention_tasks import WHOLE, attention_tasks
from llorch.model.batch import Batch

_ROWS = (st.TOKEN_IDS, st.POSITIONS, st.SLOTS, st.OUTPUT_ROW_IDS)


class StepInputs:
    """Copies batches to where the kernels find them, and refuses those that point elsewhere.

    The addresses stand in the step once and for all: to ask NumPy for one takes a microsecond, and several in the
    cold caches that a step leaves.
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
        self._n_vocab, self._n_head_kv, self._n_threads = n_vocab, n_head_kv, n_threads
        self._split_from = sys.maxsize if n_threads == 1 else ATTENTION_PART
        self._rows = np.zeros((len(_ROWS), n_batch), np.int32)
        self._tasks = np.zeros((n_batch + MOST_ROW_PARTS, TASK_FIELDS), np.int32)
        self._rows_address, self._tasks_address = int(self._rows.ctypes.data), int(self._tasks.ctypes.data)
        for i, index in enumerate(_ROWS):
            step[index] = self._rows_address + i * self._rows.strides[0]
        step[st.TASKS] = self._tasks_address
        self._tables: NDArray[np.int32] = np.zeros((0, 0), np.int32)

    def fill(self, batch: Batch) -> int:
        """Take over `batch`, whose rows are counted already.

        Returns:
            Its last position.

        Raises:
            ValueError: its arrays do not go together, or something points outside the vocabulary, the tables or itself.
        """
        rows, n_rows, n_outputs = self._rows, len(batch.token_ids), len(batch.output_rows)
        np.copyto(rows[0, :n_rows], batch.token_ids, "safe")
        np.copyto(rows[1, :n_rows], batch.positions, "safe")
        np.copyto(rows[2, :n_rows], batch.slots, "safe")
        np.copyto(rows[3, :n_outputs], batch.output_rows, "safe")
        if batch.block_tables is not self._tables:
            self._point_to(batch.block_tables)
        n_slots, n_blocks = self._tables.shape
        n_positions = n_blocks * KV_BLOCK_SIZE
        found = check_rows(
            self._rows_address, rows.shape[1], n_rows, n_outputs, self._n_vocab, n_positions, n_slots,
            self._tasks_address, WHOLE, self._split_from,
        )  # fmt: skip
        if found < 0:
            raise ValueError(_fault(batch, self._n_vocab))
        last, n_tasks = found >> 32, found & 0xFFFFFFFF
        if last >= self._split_from:
            tasks = attention_tasks(batch.positions, batch.slots, self._n_head_kv, self._n_threads)
            n_tasks = len(tasks)
            self._tasks[:n_tasks] = tasks
        step = self._step
        step[st.N_ROWS], step[st.N_OUTPUTS], step[st.N_TASKS] = n_rows, n_outputs, n_tasks
        return last

    def _point_to(self, block_tables: NDArray[np.int32]) -> None:
        """Have the step read these tables; those of an engine are the same array in every step."""
        self._tables = tables = np.ascontiguousarray(block_tables, np.int32)
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
