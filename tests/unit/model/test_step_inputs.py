"""A batch as kernels read it: copied to where they look, checked, its attention shared out as the slow twin does."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llorch.kernels import step as fields
from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE
from llorch.model import step_inputs
from llorch.model.attention_tasks import attention_tasks
from llorch.model.batch import Batch
from llorch.model.step_inputs import StepInputs

N_BATCH, N_VOCAB, N_HEAD_KV = 96, 50, 3
N_SLOTS, N_BLOCKS = 5, 20


def new_inputs(n_threads: int = 2) -> tuple[StepInputs, NDArray[np.int64]]:
    step = np.zeros(fields.STEP_SIZE, np.int64)
    return StepInputs(step, N_BATCH, N_VOCAB, N_HEAD_KV, n_threads), step


def batch_of(runs: list[tuple[int, int, int]]) -> Batch:
    """Runs of (slot, first position, rows); every third row has logits."""
    positions = np.concatenate([np.arange(first, first + n) for _, first, n in runs]).astype(np.int32)
    slots = np.concatenate([np.full(n, slot) for slot, _, n in runs]).astype(np.int32)
    token_ids = (np.arange(len(slots)) * 7 % N_VOCAB).astype(np.int32)
    tables = np.arange(N_SLOTS * N_BLOCKS, dtype=np.int32).reshape(N_SLOTS, N_BLOCKS)
    return Batch.of(token_ids, positions, slots, tables, np.arange(0, len(slots), 3, dtype=np.int32))


run = st.tuples(
    st.integers(0, N_SLOTS - 1), st.sampled_from([0, 1, 40, ATTENTION_PART - 20, 500]), st.integers(1, 20)
)


@settings(max_examples=100)
@given(st.lists(st.lists(run, min_size=1, max_size=4), min_size=1, max_size=3), st.sampled_from([1, 2, 8]))
def test_kernels_find_each_batch_and_the_tasks_of_the_slow_twin(
    batches: list[list[tuple[int, int, int]]], n_threads: int
) -> None:
    inputs, step = new_inputs(n_threads)
    for runs in batches:
        batch = batch_of(runs)
        assert inputs.fill(batch) == batch.positions.max()
        tasks = attention_tasks(batch.positions, batch.slots, N_HEAD_KV, n_threads)
        assert (step[fields.N_ROWS], step[fields.N_OUTPUTS]) == (batch.n_rows, len(batch.output_rows))
        assert step[fields.N_TASKS] == len(tasks)
        np.testing.assert_array_equal(inputs._tasks[: len(tasks)], tasks)
        arrays = (batch.token_ids, batch.positions, batch.slots, batch.output_rows)
        indices = (fields.TOKEN_IDS, fields.POSITIONS, fields.SLOTS, fields.OUTPUT_ROW_IDS)
        for index, array in zip(indices, arrays, strict=True):
            found = np.ctypeslib.as_array((ctypes.c_int32 * len(array)).from_address(int(step[index])))
            np.testing.assert_array_equal(found, array)
        assert step[fields.TASKS] == inputs._tasks.ctypes.data
        assert step[fields.TABLES] == batch.block_tables.ctypes.data


def test_tables_that_do_not_lie_together_are_copied_with_every_batch() -> None:
    inputs, step = new_inputs()
    batch = batch_of([(0, 0, 1)])
    tables = np.asfortranarray(batch.block_tables)
    for _ in range(2):
        tables[1, 2] += 1
        inputs.fill(Batch.of(batch.token_ids, batch.positions, batch.slots, tables, batch.output_rows))
        assert inputs._tables[1, 2] == tables[1, 2]
        assert step[fields.TABLE_STRIDE] == 4 * N_BLOCKS


@pytest.mark.parametrize(
    ("field", "row", "limit"),
    [
        ("token_ids", 3, N_VOCAB),
        ("positions", 9, N_BLOCKS * KV_BLOCK_SIZE),
        ("slots", 0, N_SLOTS),
        ("output_rows", 1, 10),
    ],
)
def test_what_points_outside_is_named(field: str, row: int, limit: int) -> None:
    inputs, _ = new_inputs()
    for value, fails in ((limit, True), (-1, True), (limit - 1, False)):
        batch = batch_of([(2, 0, 10)])
        getattr(batch, field)[row] = value
        if fails:
            with pytest.raises(ValueError, match=f"{field}: expected 0 to {limit - 1}, got"):
                inputs.fill(batch)
        else:
            inputs.fill(batch)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_tasks_of_long_contexts_are_those_of_the_batch_whatever_came_before(n_threads: int) -> None:
    inputs, step = new_inputs(n_threads)
    long, short, one, mixed = (
        [(1, 300, 1), (0, 511, 1)],
        [(1, 30, 1)],
        [(0, 512, 1)],
        [(1, 300, 3), (0, 511, 1)],
    )
    later, other = [(1, 301, 1), (0, 511, 1)], [(2, 301, 1), (0, 512, 1)]
    for runs in (long, long, later, short, later, one, mixed, long, other, long):
        batch = batch_of(runs)
        inputs.fill(batch)
        tasks = attention_tasks(batch.positions, batch.slots, N_HEAD_KV, n_threads)
        assert step[fields.N_TASKS] == len(tasks)
        np.testing.assert_array_equal(inputs._tasks[: len(tasks)], tasks)


def test_tasks_of_the_same_rows_and_parts_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = new_inputs()
    asked = []

    def noted(positions: NDArray[np.int32], *args: Any) -> NDArray[np.int32]:
        asked.append(int(positions[0]))
        return attention_tasks(positions, *args)

    monkeypatch.setattr(step_inputs, "attention_tasks", noted)
    for position in range(ATTENTION_PART - 2, 2 * ATTENTION_PART + 2):
        inputs.fill(batch_of([(1, position, 1)]))
    assert asked == [ATTENTION_PART, 2 * ATTENTION_PART]


def test_arrays_of_other_lengths_or_types_are_refused() -> None:
    batch = batch_of([(2, 0, 10)])
    for positions, message in (
        (batch.positions[:9], "as many of each"),
        (batch.positions[:, None], "dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            Batch.of(batch.token_ids, positions, batch.slots, batch.block_tables, batch.output_rows)
    wide = batch.token_ids.astype(np.int64)
    with pytest.raises(TypeError, match="safe"):
        Batch.of(wide, batch.positions, batch.slots, batch.block_tables, batch.output_rows)  # type: ignore[arg-type]
