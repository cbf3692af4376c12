"""A `ModelConfig` made by hand, for tests that need no model file."""

from __future__ import annotations

from llorch.model.config import ModelConfig

SMALLEST = ModelConfig(
    n_vocab=1, n_embd=1, n_layer=2, n_head=1, n_head_kv=1, head_dim=1, n_ff=1, n_ctx_train=1, n_rot=1,
    rope_freq_base=1.0, rope_freq_scale=1.0, norm_eps=1e-5,
)  # fmt: skip
"""Two layers, and one of everything else; tests replace what they are about."""
