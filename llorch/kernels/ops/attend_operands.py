"""Operands of attention, which its runner (`attend`) and the runner's slow twin (`attend_llama_cpp`) read."""

from __future__ import annotations

from llorch.kernels.program import operands

(Q, Q_STRIDE, OUT, OUT_STRIDE, N_HEAD, N_HEAD_KV, HEAD_DIM, SCALE, LAYER, PART_OUTPUTS, PART_STATES,
 PARTS_DONE) = operands(12)  # fmt: skip
"""The last three are addresses of `attend_parts.PartBuffers`."""
