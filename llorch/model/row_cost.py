"""What rows cost, counted in rows: their products, and attention for each position that they look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llorch.model.config import ModelConfig

_FLOAT_PRICE = 4
"""A multiply-add of attention in float32, in those of quantised products."""


@dataclass(frozen=True, slots=True)
class RowCost:
    """Prices rows; a row at the begin of a prompt costs 1.

    Attributes:
        equal: positions that attention looks at in the time that a row's products take, about.
    """

    equal: float = math.inf

    @classmethod
    def of(cls, config: ModelConfig) -> RowCost:
        """The multiply-adds of a model's layers say it."""
        heads = config.n_head * config.head_dim
        products = 2 * config.n_embd * (heads + config.n_head_kv * config.head_dim)
        products += 3 * config.n_embd * config.n_ff
        return cls(products / (2 * heads * _FLOAT_PRICE))

    def price(self, n_rows: int, n_looks: int) -> float:
        """Of rows that look at `n_looks` positions, all together."""
        return n_rows + n_looks / self.equal

    def rows(self, price: float, n_before: int) -> int:
        """How many rows of a prompt, behind `n_before` positions, have a price."""
        first = 1 + n_before / self.equal
        return int(2 * price / (first + math.sqrt(first * first + 2 * price / self.equal)))
