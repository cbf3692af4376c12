"""What a row costs, counted in rows: products, and attention for each position that the row looks at."""

from __future__ import annotations

from llorch.model.config import ModelConfig

_FLOAT_PRICE = 4
"""A multiply-add of attention in float32, in those of quantised products."""


def positions_like_a_row(config: ModelConfig) -> float:
    """How many positions attention looks at in the time that a row's products take, about."""
    heads = config.n_head * config.head_dim
    products = 2 * config.n_embd * (heads + config.n_head_kv * config.head_dim)
    products += 3 * config.n_embd * config.n_ff
    return products / (2 * heads * _FLOAT_PRICE)
