"""Which rows threads share in attention: everything once, the longest first, within the buffers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels.batch_rows import WHOLE
from llorch.kernels.layout import ATTENTION_PART, GROUP_ROWS
from llorch.kernels.ops.attend_parts import MOST_ROW_PARTS
from llorch.model.attention_tasks import attention_tasks


def tasks_of(rows: list[tuple[int, int, int]], n_head_kv: int = 3, n_threads: int = 2) -> NDArray[np.int32]:
    """Tasks of runs of (slot, first position, number of rows), checked: every row's parts once, no overlap."""
    positions = np.concatenate([np.arange(p, p + n) for _, p, n in rows]).astype(np.int32)
    slots = np.concatenate([np.full(n, slot) for slot, _, n in rows]).astype(np.int32)
    tasks = attention_tasks(positions, slots, n_head_kv, n_threads)
    seen = np.zeros((len(positions), positions.max() // ATTENTION_PART + 1), int)
    used: dict[int, tuple[int, int]] = {}
    for row, n, part, kept in tasks.tolist():
        assert 1 <= n <= GROUP_ROWS
        assert len(set(slots[row : row + n])) == 1
        n_parts = positions[row + n - 1] // ATTENTION_PART + 1
        seen[row : row + n, slice(0, n_parts) if part == WHOLE else part] += 1
        if part != WHOLE:
            used[kept] = row, kept + n * n_parts
    for row, position in enumerate(positions):
        assert (seen[row, : position // ATTENTION_PART + 1] == 1).all()
    ends = [0, *(end for _, (_, end) in sorted(used.items()))]
    assert all(kept >= end for kept, end in zip(sorted(used), ends, strict=False))
    assert ends[-1] <= MOST_ROW_PARTS
    return tasks


def test_one_long_sequence_is_shared_by_all_threads() -> None:
    tasks = tasks_of([(0, 4000, 1)])
    assert tasks.tolist() == [[0, 1, part, 0] for part in range(16)]


@pytest.mark.parametrize("rows", [[(0, 4000, 1)], [(0, 3000, 512)]])
def test_one_thread_shares_nothing(rows: list[tuple[int, int, int]]) -> None:
    assert (tasks_of(rows, n_threads=1)[:, 2] == WHOLE).all()


def test_contexts_of_one_part_are_not_split() -> None:
    tasks = tasks_of([(0, ATTENTION_PART - 20, 20), (3, 7, 1)], n_threads=64)
    assert tasks.tolist() == [[20, 1, WHOLE, 0], [16, 4, WHOLE, 0], [0, 16, WHOLE, 0]]


def test_a_long_prompt_on_few_threads_is_not_split() -> None:
    """There is more than enough to share; splitting would only cost."""
    assert (tasks_of([(0, 3000, 512)])[:, 2] == WHOLE).all()


def test_a_long_sequence_beside_short_ones_is_split_and_they_are_not() -> None:
    tasks = tasks_of([(0, 20, 1), (1, 8000, 1), (2, 500, 1)])
    is_split = tasks[:, 2] != WHOLE
    assert set(tasks[is_split, 0]) == {1}
    assert tasks[~is_split].tolist() == [[2, 1, WHOLE, 0], [0, 1, WHOLE, 0]]


def test_what_is_whole_is_claimed_first_and_the_longest_of_it_at_once() -> None:
    tasks = tasks_of([(0, 5000, 512)], n_threads=64)
    is_split = (tasks[:, 2] != WHOLE).tolist()
    assert is_split == sorted(is_split)
    assert any(is_split)
    first_rows = [row for row, _, part, _ in tasks.tolist() if part == WHOLE]
    assert first_rows == sorted(first_rows, reverse=True)


@pytest.mark.parametrize("position", [262_143, 262_144, 2_000_000])
def test_contexts_beyond_the_buffers_are_computed_by_one_thread_for_each_head(position: int) -> None:
    tasks = tasks_of([(0, position, 1)], n_threads=64)
    assert len(tasks) == (MOST_ROW_PARTS if position < 262_144 else 1)
