"""Values between bounds, as Prometheus counts them."""

from __future__ import annotations

from llorch.observe.distribution import Distribution


def test_a_value_counts_at_the_first_bound_that_is_not_below_it() -> None:
    distribution = Distribution((1, 2.5, 5))
    for value in (0, 1, 1.1, 2.5, 5, 5.1, 100):
        distribution.add(value)
    assert distribution.counts == [2, 2, 1, 2]
    assert distribution.n == 7
    assert distribution.total == 114.7
