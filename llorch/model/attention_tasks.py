"""What the threads claim in attention: groups of rows with all of their context, or with one part of it.

Which rows are split decides who computes what, never a bit: parts are the same, and added in the same order, whether
one thread computes all of them or each its own.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.batch_rows import WHOLE
from llorch.kernels.layout import ATTENTION_PART, GROUP_ROWS
from llorch.kernels.ops.attend_parts import MOST_ROW_PARTS

_PIECES_PER_THREAD = 4
"""A group is split when it is more than such a share of what a thread has to do."""


def attention_tasks(
    positions: NDArray[np.int32], slots: NDArray[np.int32], n_head_kv: int, n_threads: int
) -> NDArray[np.int32]:
    """Tasks in the order in which they are claimed, each for every KV head: the longest first, then single parts.

    Args:
        positions, slots: of the batch's rows, as in `Batch`.
        n_head_kv: KV heads.
        n_threads: most threads that may take part.

    Returns:
        int32 (n_tasks, 4): first row; number of rows; part, or `WHOLE`; where what the group's parts give is kept, in
        pairs of a row and a part.
    """
    groups = row_groups(slots)
    if n_threads == 1 or positions.max() < ATTENTION_PART:
        return np.array([(row, n, WHOLE, 0) for row, n in reversed(groups)], np.int32)
    # (work, first row, rows, parts): late rows see more positions.
    sized = []
    for row, n in groups:
        n_parts = int(positions[row + n - 1]) // ATTENTION_PART + 1
        sized.append((n * n_parts, row, n, n_parts))
    sized.sort(reverse=True)
    share = sum(work for work, *_ in sized) * n_head_kv / (n_threads * _PIECES_PER_THREAD)
    whole, parts, kept = [], [], 0
    for work, row, n, n_parts in sized:
        if n_parts > 1 and work > share and kept + work <= MOST_ROW_PARTS:
            parts += [(row, n, part, kept) for part in range(n_parts)]
            kept += work
        else:
            whole.append((row, n, WHOLE, 0))
    return np.array(whole + parts, np.int32)


def row_groups(slots: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Runs of rows of one sequence, at most `GROUP_ROWS` long: first row and length of each."""
    groups, start = [], 0
    for _, run in itertools.groupby(slots.tolist()):
        end = start + len(list(run))
        groups += [(row, min(GROUP_ROWS, end - row)) for row in range(start, end, GROUP_ROWS)]
        start = end
    return groups
