"""What changes from step to step, laid out as int64 for the operations."""

from __future__ import annotations

(N_ROWS, N_OUTPUTS, TOKEN_IDS, POSITIONS, SLOTS, TABLES, TABLE_STRIDE, TASKS, N_TASKS, OUTPUT_ROW_IDS, KEYS, VALUES,
 LAYER_KEY_BYTES, LAYER_VALUE_BYTES, BLOCK_KEY_BYTES, BLOCK_VALUE_BYTES, ROPE_TABLE, LOGITS, LOGITS_STRIDE, STAMPS,
 SCORES_RAW, SCORES_WEIGHTS, SCORES_STATES, SCORES_HEAD_STRIDE, SCORES_ROW_STRIDE, N_NODES,
 TEAM_THREADS) = range(27)  # fmt: skip
"""Indices into a step: counts, addresses and strides in bytes.

`model.llama`, `model.step_inputs` and `batch_rows.check_rows` write them.

N_NODES: NUMA nodes that threads and tiles are shared out to; below 2 where they do not matter. TEAM_THREADS: threads of
the team, of which neighbours are on the same node. STAMPS: address of an `observe.stamps.Stamps`' log, or 0.
"""

STEP_SIZE = 27
"""int64 per step."""
