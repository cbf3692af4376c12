"""The free list of the KV cache: handing blocks out and taking them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.engine.block_pool import BlockPool
from llorch.errors import LlorchError


def test_a_begun_block_counts_whole() -> None:
    pool = BlockPool(10, block_size=32)
    assert [pool.blocks_for(n) for n in (0, 1, 32, 33, 64, 65)] == [0, 1, 1, 2, 2, 3]


def test_no_block_is_ever_handed_out_twice() -> None:
    pool = BlockPool(10, block_size=32)
    first, second = pool.allocate(4), pool.allocate(5)
    assert len({*first, *second}) == 9
    assert {*first, *second} <= set(range(10))
    assert pool.n_free == 1
    with pytest.raises(LlorchError, match="2 KV blocks wanted, 1 of 10"):
        pool.allocate(2)
    assert pool.n_free == 1
    pool.release(first)
    assert pool.n_free == 5
    assert not set(pool.allocate(5)) & set(second)
    assert pool.allocate(0) == []


@given(st.lists(st.integers(0, 6), max_size=40))
def test_blocks_are_either_free_or_held_by_one_owner(sizes: list[int]) -> None:
    pool = BlockPool(12, block_size=4)
    held: list[list[int]] = []
    for size in sizes:
        if size <= pool.n_free:
            held.append(pool.allocate(size))
        elif held:
            pool.release(held.pop(0))
        owned = [block for blocks in held for block in blocks]
        assert len(set(owned)) == len(owned)
        assert pool.n_free == pool.n_blocks - len(owned)
