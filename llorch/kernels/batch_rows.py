"""What unchecked kernels trust in a batch: looked at for all rows in one call, before every step."""

from __future__ import annotations

from llorch.kernels.emit.scalars import as_int32
from llorch.kernels.jit import kernel, unit
from llorch.kernels.layout import GROUP_ROWS

TASK_FIELDS = 4
"""int32 of a task of attention: first row, rows, part, where its parts are kept."""


@unit("checking batches", 10, is_short=True)
def check_rows(rows, stride, n_rows, n_outputs, n_vocab, n_positions, n_slots, tasks, whole, split_from):
    """Check a batch, and share out its attention if no context is worth splitting.

    NumPy took 40 us for the checks and 10 to 35 us for the tasks of 1 to 16 sequences: after a step nothing of
    Python is in the caches.

    Args (int64; addresses unless said otherwise):
        rows: int32 (4, stride), token ids, positions, slots and output rows.
        stride, n_rows, n_outputs: `n_rows` of the first three rows and `n_outputs` of the last are in use.
        n_vocab, n_positions, n_slots: what they must be below; output rows below `n_rows`.
        tasks: int32 (n, TASK_FIELDS), written: groups of rows with all of their context, the last first.
        whole: in place of a part, all of them.
        split_from: position from which on contexts may be split; if one reaches it, no tasks are written.

    Returns:
        ``last position << 32 | number of tasks``; -1 if something points outside.
    """
    ids, positions = as_int32(rows), as_int32(rows + 4 * stride)
    slots, outputs = as_int32(rows + 8 * stride), as_int32(rows + 12 * stride)
    last = 0
    for i in range(n_rows):
        position = positions[i]
        if ids[i] < 0 or ids[i] >= n_vocab or position < 0 or position >= n_positions:
            return -1
        if slots[i] < 0 or slots[i] >= n_slots:
            return -1
        last = max(last, position)
    for i in range(n_outputs):
        if outputs[i] < 0 or outputs[i] >= n_rows:
            return -1
    n_tasks = 0
    if last < split_from:
        n_tasks = _write_groups(slots, n_rows, as_int32(tasks), whole)
    return last << 32 | n_tasks


@kernel
def _write_groups(slots, n_rows, tasks, whole):
    """Write the runs of rows of one sequence, at most `GROUP_ROWS` long; returns how many there are."""
    n_groups, run = 0, 0  # the first row of the run
    for i in range(n_rows):
        if slots[i] != slots[run]:
            run = i
        n_groups += (i - run) % GROUP_ROWS == 0
    run, group = 0, n_groups
    for i in range(n_rows):
        if slots[i] != slots[run]:
            run = i
        if (i - run) % GROUP_ROWS == 0:
            group -= 1
            at = group * TASK_FIELDS
            tasks[at], tasks[at + 1], tasks[at + 2], tasks[at + 3] = i, 0, whole, 0
        tasks[group * TASK_FIELDS + 1] += 1
    return n_groups
