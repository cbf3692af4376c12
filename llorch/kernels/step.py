"""What changes from step to step, laid out as int64 for the interpreter."""

from __future__ import annotations

(N_ROWS, N_OUTPUTS, TOKEN_IDS, POSITIONS, SLOTS, TABLES, TABLE_STRIDE, GROUPS, N_GROUPS, OUTPUT_ROW_IDS, KEYS, VALUES,
 LAYER_KEY_BYTES, LAYER_VALUE_BYTES, IS_HALF, ROPE_TABLE, LOGITS, LOGITS_STRIDE, STAMPS, SCORES_RAW, SCORES_WEIGHTS,
 SCORES_HEAD_STRIDE, SCORES_ROW_STRIDE) = range(23)  # fmt: skip
"""Indices into a step: counts, addresses and strides in bytes (`model.runner` fills them)."""

STEP_SIZE = 24
"""int64 per step."""

GROUP_ROWS = 16
"""Most rows of one sequence that attention handles as one piece of work."""
