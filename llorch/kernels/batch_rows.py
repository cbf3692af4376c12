"""What unchecked kernels trust in a batch: looked at for all rows in one call, before every step."""

from __future__ import annotations

from llorch.kernels import step as st
from llorch.kernels.emit.scalars import as_int32, as_int64
from llorch.kernels.jit import kernel, unit
from llorch.kernels.layout import ATTENTION_PART, GROUP_ROWS

TASK_FIELDS = 4
"""int32 of a task of attention: first row, rows, part, where its parts are kept."""

WHOLE = -1
"""In place of a part: all of them."""


@unit("checking batches", 10, is_short=True)
def check_rows(step, rows, tasks, noted, n_rows, n_outputs, split_from, n_vocab, n_positions, n_slots):
    """Check a batch, write into the step where it is, and share out its attention if no context is worth splitting.

    NumPy took 40 us for the checks and 10 to 35 us for the tasks of 1 to 16 sequences: after a step nothing of
    Python is in the caches.

    Args (int64; addresses unless said otherwise):
        step: int64 (STEP_SIZE,), gets addresses and counts.
        rows: int32 (3 * n_rows + n_outputs,), token ids, positions, slots and output rows.
        tasks: int32 (n, TASK_FIELDS), written: groups of rows with all of their context, the last first.
        noted: int32 (2 + 2 * n_rows,) of the last batch whose tasks others wrote: how many these are, its rows, and
            each row's slot and part. They are the tasks of a batch that has the same.
        n_rows, n_outputs: rows, and how many of them have logits.
        split_from: position from which on contexts may be split; if one reaches it, no tasks are written.
        n_vocab, n_positions, n_slots: what values must be below; output rows below `n_rows`.

    Returns:
        ``last position << 32 | number of tasks``, 0 tasks if others have to write them; -1 if something points outside.
    """
    ids, positions = as_int32(rows), as_int32(rows + 4 * n_rows)
    slots, outputs = as_int32(rows + 8 * n_rows), as_int32(rows + 12 * n_rows)
    last = 0
    for i in range(n_rows):
        if not (0 <= ids[i] < n_vocab and 0 <= positions[i] < n_positions and 0 <= slots[i] < n_slots):
            return -1
        last = max(last, positions[i])
    for i in range(n_outputs):
        if not 0 <= outputs[i] < n_rows:
            return -1
    before = as_int32(noted)
    if last < split_from:
        before[0], n_tasks = 0, _write_groups(slots, n_rows, as_int32(tasks))
    else:
        before[0] = n_tasks = before[0] if _is_noted(slots, positions, n_rows, before) else 0
    s = as_int64(step)
    s[st.N_ROWS], s[st.N_OUTPUTS], s[st.N_TASKS] = n_rows, n_outputs, n_tasks
    s[st.TOKEN_IDS], s[st.POSITIONS] = rows, rows + 4 * n_rows
    s[st.SLOTS], s[st.OUTPUT_ROW_IDS] = rows + 8 * n_rows, rows + 12 * n_rows
    return last << 32 | n_tasks


@kernel
def _is_noted(slots, positions, n_rows, noted):
    """Whether the rows have the slots and parts that are noted; theirs are now."""
    is_same = noted[1] == n_rows
    noted[1] = n_rows
    for i in range(n_rows):
        at, part = 2 + 2 * i, positions[i] // ATTENTION_PART
        is_same = is_same and noted[at] == slots[i] and noted[at + 1] == part
        noted[at], noted[at + 1] = slots[i], part
    return is_same


@kernel
def _write_groups(slots, n_rows, tasks):
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
            tasks[at], tasks[at + 1], tasks[at + 2], tasks[at + 3] = i, 0, WHOLE, 0
        tasks[group * TASK_FIELDS + 1] += 1
    return n_groups
