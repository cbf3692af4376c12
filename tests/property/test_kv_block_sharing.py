"""Whatever comes, goes, fails and gives way: every sequence finds its own prefix in its blocks, and no block is lost.

A model of the KV cache stands in for the real one: a position holds the tokens up to it and their owner.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.engine.block_pool import BlockPool
from llorch.engine.kv_blocks import KVBlocks
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.sampling import Sampler
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.engine.sequence import Sequence
from llorch.text.detokenizer import TextStream

BLOCK = 2
N_CTX = 16


class Simulation:
    """A scheduler whose sequences are computed by writing down what a position stands for."""

    def __init__(self, seed: int, n_blocks: int, n_slots: int) -> None:
        self.random = random.Random(seed)
        self.pool = BlockPool(n_blocks, BLOCK)
        self.scheduler = Scheduler(KVBlocks(self.pool, n_slots, N_CTX // BLOCK), n_slots)
        self.cache: dict[tuple[int, int], object] = {}
        self.alive: list[Sequence] = []
        self.n_made = 0

    def add(self) -> None:
        """Few tokens and owners, so that many prompts begin alike."""
        n_prompt = self.random.randrange(1, N_CTX)
        token_ids = tuple(self.random.choice((1, 1, 1, 2)) for _ in range(n_prompt))
        request = Request(
            f"{self.n_made}", token_ids, SamplingParams(), self.random.randrange(1, 9),
            owner=self.random.choice(("", "a")), cache_prompt=self.random.random() < 0.8,
        )  # fmt: skip
        self.n_made += 1
        sequence = Sequence(
            request, 0, Sampler(request.params, 0, []), cast(TextStream, None),
            n_max=min(n_prompt + request.max_tokens, N_CTX), submitted_s=float(self.n_made),
        )  # fmt: skip
        self.scheduler.add(sequence)
        self.alive.append(sequence)

    def end(self, sequence: Sequence, *, is_faulty: bool = False) -> None:
        self.scheduler.remove(sequence, is_faulty=is_faulty)
        self.alive.remove(sequence)

    def step(self) -> None:
        self.scheduler.admit()
        n_rows = self.random.randrange(1, 12)
        chunks = self.scheduler.schedule(n_rows)
        assert chunks or not self.alive
        if self.alive:
            oldest = min(self.scheduler.running, key=lambda sequence: sequence.turn)
            n_owners = len({sequence.request.owner for sequence in self.scheduler.running})
            n_left = n_rows - self.scheduler.n_decoding
            assert n_left < n_owners or oldest in [chunk.sequence for chunk in chunks]
        for chunk in chunks:
            self.compute(chunk)
        self.check()
        for chunk in chunks:
            sequence = chunk.sequence
            if not sequence.n_pending:
                sequence.append(self.random.choice((1, 2)), 0.0)
            if len(sequence.token_ids) >= sequence.n_max:
                self.end(sequence)

    def compute(self, chunk: Chunk) -> None:
        sequence = chunk.sequence
        shared = Counter(block for other in self.scheduler.running for block in set(other.kv_blocks))
        for position in range(sequence.n_computed, sequence.n_computed + chunk.n_tokens):
            block = sequence.kv_blocks[position // BLOCK]
            assert shared[block] == 1  # nobody else reads what is written
            assert self.scheduler.blocks.tables[sequence.slot, position // BLOCK] == block
            self.cache[block, position % BLOCK] = self.meaning(sequence, position)
        sequence.n_computed += chunk.n_tokens

    def check(self) -> None:
        used = set()
        for sequence in self.scheduler.running:
            assert (
                list(self.scheduler.blocks.tables[sequence.slot, : len(sequence.kv_blocks)])
                == sequence.kv_blocks
            )
            used.update(sequence.kv_blocks)
            for position in range(sequence.n_computed):
                place = sequence.kv_blocks[position // BLOCK], position % BLOCK
                assert self.cache[place] == self.meaning(sequence, position)
            assert sequence.n_cached < sequence.n_prompt
        assert self.pool.n_free == self.pool.n_blocks - len(used)

    @staticmethod
    def meaning(sequence: Sequence, position: int) -> object:
        return sequence.request.owner, tuple(sequence.token_ids[: position + 1])


@given(
    seed=st.integers(0, 2**32),
    n_blocks=st.sampled_from([8, 9, 12, 30]),
    n_slots=st.integers(1, 5),
    actions=st.lists(st.sampled_from(["add", "add", "step", "step", "step", "abort", "fail"]), max_size=80),
)
@settings(max_examples=150)
def test_every_sequence_finds_its_own_prefix_and_no_block_is_lost(
    seed: int, n_blocks: int, n_slots: int, actions: list[str]
) -> None:
    simulation = Simulation(seed, n_blocks, n_slots)
    for action in actions:
        if action == "add":
            simulation.add()
        elif action == "step":
            simulation.step()
        elif simulation.alive:
            simulation.end(simulation.random.choice(simulation.alive), is_faulty=action == "fail")
    n_steps = 0
    while simulation.alive:  # all of them come to their end
        simulation.step()
        n_steps += 1
        assert n_steps < 10_000
    pool = simulation.pool
    assert pool.n_free == n_blocks
    assert sorted(pool.allocate(n_blocks)) == list(range(n_blocks))


@pytest.mark.parametrize("seed", range(3))
def test_the_simulation_shares_and_preempts(seed: int) -> None:
    """Else the test above would show nothing."""
    simulation = Simulation(seed, 9, 4)
    n_cached = 0
    for _ in range(40):
        simulation.add()
    while simulation.alive:
        simulation.step()
        n_cached += sum(sequence.n_cached > 0 for sequence in simulation.scheduler.running)
    assert simulation.scheduler.n_preempted
    assert n_cached
