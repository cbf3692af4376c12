"""Threads share rows out among themselves: each row once, neighbours together."""

from __future__ import annotations

import pytest

from llorch.kernels.ops.shares import share_of


@pytest.mark.parametrize("n", [0, 1, 2, 7, 512])
@pytest.mark.parametrize("nth", [1, 2, 3, 64])
def test_every_piece_of_work_is_in_one_share_and_shares_are_equal_to_one(n: int, nth: int) -> None:
    shares = [share_of.py_func(n, ith, nth) for ith in range(nth)]
    assert [i for first, last in shares for i in range(first, last)] == list(range(n))
    sizes = [last - first for first, last in shares]
    assert max(sizes) - min(sizes) <= 1
