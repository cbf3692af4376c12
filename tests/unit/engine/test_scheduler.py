"""Who runs next."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llorch.engine.block_pool import BlockPool
from llorch.engine.kv_blocks import BlockStore, KVBlocks
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.engine.scheduler import Scheduler
from llorch.engine.sequence import Sequence
from llorch.text.detokenizer import TextStream

BLOCK = 4


def new_scheduler(n_blocks: int, n_slots: int, *, keeps_prefixes: bool = True) -> Scheduler:
    pool = BlockPool(n_blocks, BLOCK)
    return Scheduler(KVBlocks(pool, n_slots, n_blocks, keeps_prefixes=keeps_prefixes), n_slots)


def sequence(
    name: str, n_prompt: int, max_tokens: int = 4, *, owner: str = "", first_id: int | None = None
) -> Sequence:
    """A sequence whose tokens nobody else has, unless a `first_id` is given."""
    params = SamplingParams()
    first = 1000 * sum(name.encode()) if first_id is None else first_id
    request = Request(name, tuple(range(first, first + n_prompt)), params, max_tokens, owner=owner)
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
    scheduler = new_scheduler(100, 4)
    scheduler.add(sequence("a", 10))
    assert [step(scheduler, 4) for _ in range(5)] == [
        [("a", 4)],
        [("a", 4)],
        [("a", 2)],
        [("a", 1)],
        [("a", 1)],
    ]


def test_sequences_that_need_one_token_go_on_beside_a_long_prompt() -> None:
    scheduler = new_scheduler(100, 4)
    scheduler.add(sequence("short", 2))
    assert step(scheduler, 8) == [("short", 2)]
    scheduler.add(sequence("long", 20))
    scheduler.add(sequence("other", 3))
    assert step(scheduler, 8) == [("short", 1), ("long", 7)]
    assert step(scheduler, 8) == [("short", 1), ("long", 7)]
    assert step(scheduler, 8) == [("short", 1), ("long", 6), ("other", 1)]
    assert step(scheduler, 8) == [("short", 1), ("long", 1), ("other", 2)]


def test_the_older_come_first_when_there_are_more_than_rows() -> None:
    scheduler = new_scheduler(100, 4)
    for name in "abcd":
        scheduler.add(sequence(name, 1))
    assert step(scheduler, 3) == [("a", 1), ("b", 1), ("c", 1)]


def test_slots_bound_the_running_and_the_line_is_first_come_first_served() -> None:
    scheduler = new_scheduler(100, 2)
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


def test_a_sequence_is_admitted_for_its_prompt_and_one_block_and_takes_blocks_as_it_grows() -> None:
    scheduler = new_scheduler(4, 4)
    s, other = sequence("a", 6, max_tokens=7), sequence("b", 5, max_tokens=7)
    scheduler.add(s)
    scheduler.add(other)
    assert names(scheduler.admit()) == ["a"]  # b needs three blocks, and a its two
    assert step(scheduler, 100) == [("a", 6)]
    assert len(s.kv_blocks) == 2
    assert [step(scheduler, 100) for _ in range(2)] == [[("a", 1)]] * 2
    assert len(s.kv_blocks) == 2
    step(scheduler, 100)
    assert len(s.kv_blocks) == 3
    assert (other.slot, other.kv_blocks) == (-1, [])


def test_nobody_overtakes_a_sequence_that_waits_for_blocks() -> None:
    scheduler = new_scheduler(10, 4)
    first, big, small = sequence("first", 20), sequence("big", 30), sequence("small", 2)
    for s in (first, big, small):
        scheduler.add(s)
    assert names(scheduler.admit()) == ["first"]
    assert scheduler.admit() == []
    scheduler.remove(first)
    assert names(scheduler.admit()) == ["big", "small"]


@pytest.mark.parametrize("is_running", [False, True])
def test_a_removed_sequence_gives_everything_back(is_running: bool) -> None:
    scheduler = new_scheduler(10, 1)
    s = sequence("a", 10)
    scheduler.add(s)
    if is_running:
        step(scheduler, 100)
    scheduler.remove(s)
    scheduler.remove(s)
    assert (scheduler.blocks.pool.n_free, list(scheduler.waiting), scheduler.running) == (10, [], [])
    scheduler.add(sequence("b", 10))
    assert names(scheduler.admit()) == ["b"]


def test_owners_take_turns_and_each_owner_is_served_in_order() -> None:
    scheduler = new_scheduler(100, 1)
    for name, owner in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c")):
        scheduler.add(sequence(name, 2, owner=owner))
    order = []
    while len(scheduler.waiting):
        (s,) = scheduler.admit()
        order.append(s.request.job_id)
        scheduler.remove(s)
        if len(order) == 4:  # the line of c was empty meanwhile, which is no reason to let it go first
            scheduler.add(sequence("c2", 2, owner="c"))
    assert order == ["a1", "b1", "c1", "a2", "b2", "c2", "a3"]


def test_prompts_of_different_owners_are_read_side_by_side_and_those_of_one_in_order() -> None:
    scheduler = new_scheduler(100, 5)
    for name, n_prompt, owner in (("a1", 40, "a"), ("a2", 9, "a"), ("b1", 20, "b"), ("c1", 3, "c")):
        scheduler.add(sequence(name, n_prompt, owner=owner))
    assert step(scheduler, 17) == [("c1", 3), ("b1", 7), ("a1", 7)]
    assert step(scheduler, 17) == [("c1", 1), ("b1", 8), ("a1", 8)]
    assert step(scheduler, 17) == [("c1", 1), ("b1", 5), ("a1", 11)]
    assert step(scheduler, 18) == [("b1", 1), ("c1", 1), ("a1", 14), ("a2", 2)]


def test_the_youngest_gives_way_and_is_the_first_to_come_back() -> None:
    scheduler = new_scheduler(6, 3, keeps_prefixes=False)
    a, b, c, d = (sequence(name, 7, max_tokens=13) for name in "abcd")
    for s in (a, b, c, d):
        scheduler.add(s)
    assert step(scheduler, 100) == [("a", 7), ("b", 7)]
    assert (names(scheduler.running), c.slot) == (["a", "b"], -1)
    while b.slot >= 0:
        step(scheduler, 100)
    assert (b.n_computed, b.n_seen, b.kv_blocks) == (0, len(b.token_ids) - 1, [])
    assert scheduler.n_preempted == 1
    assert names(list(scheduler.waiting)) == ["b", "c", "d"]
    assert [name for name, _ in step(scheduler, 100)] == ["a"]
    scheduler.remove(a)
    assert step(scheduler, 100) == [("b", len(b.token_ids) - 1)]


def test_the_oldest_goes_on_in_every_step_however_few_blocks_there_are() -> None:
    scheduler = new_scheduler(6, 4)
    left = [sequence(name, 5, max_tokens=19) for name in "abcdef"]
    for s in left:
        scheduler.add(s)
    while left:
        before = left[0].n_computed
        step(scheduler, 8)
        assert left[0].n_computed > before
        for s in [s for s in left if len(s.token_ids) == s.n_max]:
            scheduler.remove(s)
            left.remove(s)
    assert scheduler.n_preempted
    assert scheduler.blocks.pool.n_free == 6


def test_a_beginning_that_another_reads_is_waited_for_and_not_computed_twice() -> None:
    scheduler = new_scheduler(100, 4)
    a, b, c = (sequence(name, 22, first_id=1) for name in "abc")
    scheduler.add(a)
    scheduler.add(b)
    assert step(scheduler, 10) == [("a", 10)]
    assert step(scheduler, 10) == [("a", 10)]
    assert step(scheduler, 10) == [("a", 2), ("b", 2)]
    assert b.n_cached == 20
    assert a.kv_blocks[:5] == b.kv_blocks[:5]
    assert a.kv_blocks[5] != b.kv_blocks[5]
    scheduler.remove(a)
    scheduler.remove(b)
    scheduler.add(c)
    assert step(scheduler, 10) == [("c", 2)]


def test_who_waited_for_another_goes_on_alone_when_that_is_aborted() -> None:
    scheduler = new_scheduler(100, 4)
    a, b = (sequence(name, 22, first_id=1) for name in "ab")
    scheduler.add(a)
    scheduler.add(b)
    assert step(scheduler, 10) == [("a", 10)]
    scheduler.remove(a)
    assert step(scheduler, 10) == [("b", 10)]
    assert b.n_cached == 8


@pytest.mark.parametrize("change", [{"owner": "other"}, {"first_id": 2}])
def test_other_owners_and_other_tokens_share_nothing(change: dict[str, Any]) -> None:
    scheduler = new_scheduler(100, 4)
    scheduler.add(sequence("a", 22, first_id=1))
    scheduler.add(sequence("b", 22, **{"first_id": 1, **change}))
    assert step(scheduler, 100) == [("a", 22), ("b", 22)]


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    scheduler = new_scheduler(100, 4)
    for name in "ab":
        s = sequence(name, 2 * BLOCK, first_id=1)
        scheduler.add(s)
        assert step(scheduler, 100)[-1] == (name, 2 * BLOCK if name == "a" else BLOCK)
    assert s.n_cached == BLOCK
    step(scheduler, 100)
    assert s.kv_blocks[:2] == scheduler.running[0].kv_blocks[:2]  # computed twice, kept once


def test_who_reads_no_cache_finds_only_what_was_computed_for_itself() -> None:
    scheduler = new_scheduler(100, 4)
    scheduler.add(sequence("a", 22, first_id=1))
    s = sequence("b", 22, first_id=1)
    object.__setattr__(s.request, "cache_prompt", False)
    scheduler.add(s)
    assert step(scheduler, 100) == [("a", 22), ("b", 22)]
    scheduler._give_way(s)
    assert step(scheduler, 100) == [("a", 1), ("b", 3)]
    assert s.n_cached == 0


def test_a_store_that_fails_when_a_sequence_ends_costs_no_block(caplog: pytest.LogCaptureFixture) -> None:
    class BrokenStore:
        def holds(self, key: bytes) -> bool:
            return False

        def save(self, key: bytes, block: int) -> None:
            raise RuntimeError("a fault of ours")

        def note_use(self, keys: object) -> None:
            pass

    pool = BlockPool(10, BLOCK)
    blocks = KVBlocks(pool, 1, 10, store=cast(BlockStore, BrokenStore()))
    scheduler = Scheduler(blocks, 1)
    s = sequence("a", 10)
    scheduler.add(s)
    step(scheduler, 100)
    scheduler.remove(s)
    assert (pool.n_free, s.slot) == (10, -1)
    assert "blocks of a are not kept" in caplog.text


def test_prompts_that_came_before_any_answer_began_are_a_burst() -> None:
    scheduler = new_scheduler(100, 4)
    early, late = sequence("a", 2), sequence("b", 20)
    said = [scheduler.n_burst]
    scheduler.add(early)
    scheduler.add(late)
    scheduler.admit()
    said.append(scheduler.n_burst)
    step(scheduler, 4)
    assert early.n_pending == 1
    early.first_token_s = 1.0
    for late.submitted_s in (0.9, 1.1):  # the second came when somebody was served
        said.append(scheduler.n_burst)
    assert said == [0, 2, 20, 0]


def test_a_steady_step_has_the_chunks_that_scheduling_would_find() -> None:
    """At the ends of blocks, after a change and beside a prompt, there is none."""
    scheduler = new_scheduler(100, 4)
    scheduler.add(sequence("a", 5, 100))
    scheduler.add(sequence("b", 6, 100))
    n_steady = 0
    for i in range(40):
        if i == 20:
            scheduler.add(sequence("c", 9, 100))
        if i == 30:
            scheduler.remove(scheduler.running[0])
        admitted = scheduler.admit()
        steady = list(scheduler.steady())
        before = [list(s.kv_blocks) for s in scheduler.running]
        chunks = scheduler.schedule(8)
        if steady:
            n_steady += 1
            assert steady == chunks
            assert [list(s.kv_blocks) for s in scheduler.running] == before
            assert not admitted
            assert i != 30
        for chunk in chunks:
            chunk.sequence.n_computed += chunk.n_tokens
            if not chunk.sequence.n_pending:
                chunk.sequence.append(0, 0.0)
    assert n_steady > 12


def test_nothing_is_steady_where_a_sequence_did_not_go_on() -> None:
    scheduler = new_scheduler(100, 4)
    scheduler.add(sequence("a", 5, 100))
    for _ in range(2):
        step(scheduler, 8)
    assert scheduler.steady()
    scheduler.running[0].n_computed -= 1
    assert not scheduler.steady()


def test_a_step_that_computes_an_answer_again_is_not_steady() -> None:
    scheduler = new_scheduler(100, 4, keeps_prefixes=False)
    scheduler.add(sequence("a", 5, 100))
    for _ in range(2):
        step(scheduler, 8)
    (again,) = scheduler.running
    scheduler._give_way(again)
    assert step(scheduler, 8) == [("a", 7)]
    assert (again.n_pending, again.n_computed % BLOCK) == (1, 3)
    assert not scheduler.steady()
    assert step(scheduler, 8) == [("a", 1)]
