"""What changes from step to step, laid out as int64 for the operations."""

from __future__ import annotations

(N_ROWS, N_OUTPUTS, TOKEN_IDS, POSITIONS, SLOTS, TABLES, TABLE_STRIDE, GROUPS, N_GROUPS, OUTPUT_ROW_IDS, KEYS, VALUES,
 LAYER_KEY_BYTES, LAYER_VALUE_BYTES, ROPE_TABLE, LOGITS, LOGITS_STRIDE, STAMPS, SCORES_RAW, SCORES_WEIGHTS,
 SCORES_HEAD_STRIDE, SCORES_ROW_STRIDE) = range(22)  # fmt: skip
"""Indices into a step: counts, addresses and strides in bytes (`model.llama` fills them)."""

STEP_SIZE = 24
"""int64 per step."""
