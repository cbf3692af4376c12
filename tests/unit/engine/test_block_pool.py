"""The blocks of the KV cache: handed out, shared, kept, found again, and taken back."""

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


def test_a_block_with_a_key_is_found_while_it_is_used_and_afterwards() -> None:
    pool = BlockPool(3, block_size=32)
    (block,) = pool.allocate(1)
    assert pool.name(block, b"key") == block
    assert pool.is_used(b"key")
    assert pool.share(b"key") == block
    pool.release([block])
    assert (pool.n_free, pool.n_kept, pool.is_used(b"key")) == (2, 0, True)
    pool.release([block])
    assert (pool.n_free, pool.n_kept, pool.is_used(b"key")) == (3, 1, False)
    assert pool.share(b"key") == block
    assert pool.share(b"other") is None
    assert (pool.n_free, pool.n_kept) == (2, 0)


def test_the_second_block_of_a_key_gives_the_first() -> None:
    pool = BlockPool(3, block_size=32)
    first, second = pool.allocate(2)
    pool.name(first, b"key")
    assert pool.name(second, b"key") == first
    pool.release([first, second])
    assert pool.is_used(b"key")
    pool.release([first])
    assert (pool.n_free, pool.n_kept) == (3, 1)


def test_kept_blocks_are_taken_last_and_the_end_of_the_text_used_longest_ago_first() -> None:
    pool = BlockPool(6, block_size=32)
    old, new = pool.allocate(2), pool.allocate(2)
    for blocks, name in ((old, b"old"), (new, b"new")):
        for i, block in enumerate(blocks):
            pool.name(block, name + b"%d" % i)
        pool.release(blocks)
    assert not set(pool.allocate(2)) & {*old, *new}
    assert [pool.allocate(1)[0] for _ in range(4)] == [old[1], old[0], new[1], new[0]]
    assert pool.share(b"old0") is None


def test_a_forgotten_key_finds_nothing_and_its_block_is_not_lost() -> None:
    pool = BlockPool(2, block_size=32)
    kept, used = pool.allocate(2)
    pool.name(kept, b"kept")
    pool.name(used, b"used")
    pool.release([kept])
    for key in (b"kept", b"used", b"unknown"):
        pool.forget(key)
    assert (pool.share(b"kept"), pool.share(b"used"), pool.n_kept) == (None, None, 0)
    pool.release([used])
    assert sorted(pool.allocate(2)) == [0, 1]


def test_a_block_that_nobody_uses_cannot_be_given_back() -> None:
    pool = BlockPool(2, block_size=32)
    (block,) = pool.allocate(1)
    pool.release([block])
    with pytest.raises(LlorchError, match=f"KV block {block} has no user"):
        pool.release([block])


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "share", "name", "give", "forget"]), st.integers(0, 7)),
        max_size=60,
    )
)
def test_blocks_are_free_or_kept_or_used_by_as_many_as_hold_them(actions: list[tuple[str, int]]) -> None:
    pool = BlockPool(6, block_size=4)
    held: list[int] = []  # one entry for each use
    contents: dict[bytes, int] = {}
    for action, number in actions:
        key = b"%d" % number
        if action == "take" and pool.n_free:
            (block,) = pool.allocate(1)
            assert block not in held
            contents = {known: other for known, other in contents.items() if other != block}
            held.append(block)
        elif action == "share" and (found := pool.share(key)) is not None:
            assert found == contents[key]
            held.append(found)
        elif action == "name" and held and held[number % len(held)] not in contents.values():
            block = held[number % len(held)]
            known = pool.name(block, key)
            assert known == contents.setdefault(key, block)
            if known != block:
                held.append(known)
        elif action == "give" and held:
            pool.release([held.pop(number % len(held))])
        elif action == "forget":
            pool.forget(key)
            contents.pop(key, None)
        assert pool.n_free == pool.n_blocks - len(set(held))
        assert pool.n_kept == len(set(contents.values()) - set(held))
    pool.release(held)
    assert sorted(pool.allocate(6)) == list(range(6))
