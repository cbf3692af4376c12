from __future__ import annotations

import pytest

from tools.performance.cluster.routing import PREFIX_PIECE, ROUTERS, PrefixAffine, prefix_keys

LILY, TOM = tuple(range(3, 203)), tuple(range(40, 240))


def test_round_robin_takes_each_in_turn_and_leaves_out_who_is_gone() -> None:
    router = ROUTERS["round-robin"](4)
    assert [router.choose(LILY, {1: 0, 5: 9, 7: 0}) for _ in range(4)] == [1, 5, 7, 1]
    assert router.choose(LILY, {7: 0, 8: 0}) == 7


def test_least_loaded_takes_turns_among_equals() -> None:
    router = ROUTERS["least-loaded"](4)
    assert [router.choose(LILY, {0: 2, 1: 1, 2: 1}) for _ in range(3)] == [1, 2, 1]


def test_a_prompt_goes_where_its_beginning_was_read() -> None:
    router = PrefixAffine(4)
    home = router.choose(LILY, {0: 0, 1: 0})
    other = router.choose(TOM, {0: int(home == 0), 1: int(home == 1)})
    assert other != home
    for _ in range(3):
        assert router.choose((*LILY, 5, 6, 7), {home: 3, other: 0}) == home


def test_no_prompt_waits_for_the_replica_that_has_its_beginning() -> None:
    router = PrefixAffine(4)
    home = router.choose(LILY, {0: 0, 1: 0})
    assert router.choose(LILY, {home: 4, 1 - home: 3}) == 1 - home


def test_what_a_replica_had_is_forgotten_with_it() -> None:
    router = PrefixAffine(4)
    home = router.choose(LILY, {0: 0, 1: 0})
    router.forget(home)
    assert router.n_keys == 0


def test_a_router_remembers_no_more_than_it_may() -> None:
    router = PrefixAffine(4, max_keys=5)
    for begin in range(3, 50):
        router.choose(tuple(range(begin, begin + 300)), {0: 0})
        assert router.n_keys <= 5


@pytest.mark.parametrize("n", [0, 1, PREFIX_PIECE - 1, PREFIX_PIECE, 3 * PREFIX_PIECE + 1])
def test_keys_stand_for_whole_pieces_from_the_beginning(n: int) -> None:
    keys = prefix_keys(range(n))
    assert len(keys) == n // PREFIX_PIECE
    assert keys == prefix_keys(range(n + PREFIX_PIECE))[: len(keys)]
    assert not set(keys) & set(prefix_keys((999, *range(1, n))))
