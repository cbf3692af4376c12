"""Who runs next."""

from __future__ import annotations

from typing import cast

import pytest

from llorch.engine.block_pool import BlockPool
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.engine.scheduler import Scheduler
from llorch.engine.sequence import Sequence
from llorch.text.detokenizer import TextStream

BLOCK = 4


def new_pool(n_blocks: int) -> BlockPool:
    return BlockPool(n_blocks, BLOCK)


def sequence(name: str, n_prompt: int, max_tokens: int = 4) -> Sequence:
    params = SamplingParams()
    request = Request(name, tuple(range(n_prompt)), params, max_tokens)
    unused_text = cast(TextStream, None)
    return Sequence(
        request, 0, Sampler(params, 0, []), unused_text, n_max=n_prompt + max_tokens, submitted_s=0.0
    )


def names(sequences: list[Sequence]) -> list[str]:
    return [s.request.job_id for s in sequences]


def step(scheduler: Scheduler, n_rows: int) -> list[tuple[str, int]]:
    """One step as the engine does it, every sequence going on for ever."""
    scheduler.admit()
    chunks = scheduler.schedule(n_rows)
    for chunk in chunks:
        chunk.sequence.n_computed += chunk.n_tokens
        if not chunk.sequence.n_pending:
            chunk.sequence.append(0, 0.0)
    return [(c.sequence.request.job_id, c.n_tokens) for c in chunks]


def test_a_prompt_is_read_in_chunks_and_then_one_token_at_a_time() -> None:
    scheduler = Scheduler(new_pool(100), 4)
    scheduler.add(sequence("a", 10))
    assert [step(scheduler, 4) for _ in range(5)] == [
        [("a", 4)],
        [("a", 4)],
        [("a", 2)],
        [("a", 1)],
        [("a", 1)],
    ]


def test_sequences_that_need_one_token_go_on_beside_a_long_prompt() -> None:
    scheduler = Scheduler(new_pool(100), 4)
    scheduler.add(sequence("short", 2))
    assert step(scheduler, 8) == [("short", 2)]
    scheduler.add(sequence("long", 20))
    scheduler.add(sequence("other", 3))
    assert step(scheduler, 8) == [("short", 1), ("long", 7)]
    assert step(scheduler, 8) == [("short", 1), ("long", 7)]
    assert step(scheduler, 8) == [("short", 1), ("long", 6), ("other", 1)]
    assert step(scheduler, 8) == [("short", 1), ("long", 1), ("other", 2)]


def test_the_older_come_first_when_there_are_more_than_rows() -> None:
    scheduler = Scheduler(new_pool(100), 4)
    for name in "abcd":
        scheduler.add(sequence(name, 1))
    assert step(scheduler, 3) == [("a", 1), ("b", 1), ("c", 1)]


def test_slots_bound_the_running_and_the_line_is_first_come_first_served() -> None:
    scheduler = Scheduler(new_pool(100), 2)
    a, b, c, d = (sequence(name, 2) for name in "abcd")
    for s in (a, b, c, d):
        scheduler.add(s)
    assert names(scheduler.admit()) == ["a", "b"]
    assert {a.slot, b.slot} == {0, 1}
    assert scheduler.admit() == []
    slot = a.slot
    scheduler.remove(a)
    assert names(scheduler.admit()) == ["c"]
    assert c.slot == slot
    assert (a.slot, a.kv_blocks) == (-1, [])
    assert names(list(scheduler.waiting)) == ["d"]


def test_blocks_for_prompt_and_answer_are_reserved_at_admission() -> None:
    pool = new_pool(10)
    scheduler = Scheduler(pool, 4)
    s = sequence("a", 6, max_tokens=7)  # 12 positions: the 13th token is never computed
    scheduler.add(s)
    scheduler.admit()
    assert len(s.kv_blocks) == 3
    assert pool.n_free == 7


def test_nobody_overtakes_a_sequence_that_waits_for_blocks() -> None:
    pool = new_pool(10)
    scheduler = Scheduler(pool, 4)
    first, big, small = sequence("first", 20), sequence("big", 30), sequence("small", 2)
    for s in (first, big, small):
        scheduler.add(s)
    assert names(scheduler.admit()) == ["first"]
    assert scheduler.admit() == []
    scheduler.remove(first)
    assert names(scheduler.admit()) == ["big"]
    scheduler.remove(big)
    assert names(scheduler.admit()) == ["small"]
    scheduler.remove(small)
    assert pool.n_free == 10


@pytest.mark.parametrize("is_running", [False, True])
def test_a_removed_sequence_gives_everything_back(is_running: bool) -> None:
    pool = new_pool(10)
    scheduler = Scheduler(pool, 1)
    s = sequence("a", 10)
    scheduler.add(s)
    if is_running:
        scheduler.admit()
    scheduler.remove(s)
    assert (pool.n_free, list(scheduler.waiting), scheduler.running) == (10, [], [])
    scheduler.add(sequence("b", 10))
    assert names(scheduler.admit()) == ["b"]
