"""A price of rows, and rows for a price: one is the other's inverse."""

from __future__ import annotations

import pytest

from llorch.model.row_cost import RowCost
from tests.support.model_configs import SMALLEST


def price_of(cost: RowCost, n_before: int, n_rows: int) -> float:
    return cost.price(n_rows, sum(range(n_before, n_before + n_rows)))


@pytest.mark.parametrize("equal", [40.0, 700.0, 1e9])
@pytest.mark.parametrize("n_before", [0, 64, 3000])
@pytest.mark.parametrize("price", [1.0, 17.5, 400.0])
def test_as_many_rows_as_a_price_pays_for(equal: float, n_before: int, price: float) -> None:
    cost = RowCost(equal)
    n_rows = cost.rows(price, n_before)
    assert price_of(cost, n_before, n_rows) <= price * 1.01
    assert price_of(cost, n_before, n_rows + 1) >= price * 0.99


def test_without_attention_all_rows_cost_the_same() -> None:
    assert RowCost().price(7, 10_000) == RowCost().rows(7.0, 10_000) == 7


def test_products_and_attention_of_a_model_are_compared_by_their_multiply_adds() -> None:
    c = SMALLEST
    q_and_out, k_and_v = 2 * c.n_embd * c.n_head * c.head_dim, 2 * c.n_embd * c.n_head_kv * c.head_dim
    of_a_position = 2 * c.n_head * c.head_dim  # a score and a sum of values
    assert RowCost.of(c).equal == (q_and_out + k_and_v + 3 * c.n_embd * c.n_ff) / of_a_position / 4
