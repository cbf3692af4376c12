"""Who computes how many tokens in the next step: no phases, no arrays.

A sequence has tokens still to compute, many while its prompt is read and one afterwards; that is all the
scheduler looks at. A sequence is admitted when a slot and the KV blocks for its prompt are free; it takes blocks as it
grows. Where none is left, the youngest gives way to an older one: it waits, first in line, and is computed again. So
the oldest always goes on, and one alone always has room.
"""

from __future__ import annotations

import bisect
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from llorch.engine.kv_blocks import KVBlocks
from llorch.engine.sequence import Sequence
from llorch.engine.waiting_line import WaitingLine


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a step computes of one sequence: its next `n_tokens` tokens, and logits of the last `n_outputs` rows.

    `draft` are further rows behind them: tokens that may be chosen next.
    """

    sequence: Sequence
    n_tokens: int
    n_outputs: int = 0
    draft: tuple[int, ...] = ()


@dataclass(slots=True)
class _Step:
    """A step that is being put together.

    Attributes:
        n_rows: rows that are left.
        n_outputs: logits that are left.
        chunks: what has been given.
        under_way: keys of blocks that will be filled by those chunks and the ones behind them.
    """

    n_rows: int
    n_outputs: int
    chunks: list[Chunk] = field(default_factory=list)
    under_way: set[bytes] = field(default_factory=set)


class Scheduler:
    """The waiting and the running sequences.

    Attributes:
        waiting: sequences without a slot.
        running: sequences with a slot, oldest first.
        blocks: their KV blocks.
        n_slots: sequences that run side by side.
        n_preempted: how often a sequence had to give way.
    """

    def __init__(self, blocks: KVBlocks, n_slots: int, max_outputs: int = sys.maxsize) -> None:
        """Set up.

        Args:
            blocks: gives sequences their KV blocks.
            n_slots: sequences that may run side by side.
            max_outputs: most rows of logits of a step.
        """
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []
        self.n_slots = n_slots
        self.n_preempted = 0
        self.blocks = blocks
        self._max_outputs = max_outputs
        self._free_slots = list(range(n_slots - 1, -1, -1))
        self._steady: list[Chunk] = []
        self._n_turns = 0

    @property
    def n_decoding(self) -> int:
        """Running sequences that have one token to compute."""
        return sum(sequence.n_pending == 1 for sequence in self.running)

    @property
    def reading(self) -> Sequence | None:
        """The sequence whose prompt is to be read next, if there is one."""
        return next((sequence for sequence in self.running if sequence.n_pending > 1), None)

    @property
    def n_burst(self) -> int:
        """Tokens of the prompt to read next, if it was submitted before any running answer began; else 0.

        Then nobody was served before it came: many have begun together, and the sooner all prompts are read, the
        more answers share each pass over the weights.
        """
        reading = self.reading
        if reading is None or any(
            sequence.n_pending == 1 and sequence.first_token_s < reading.submitted_s
            for sequence in self.running
        ):
            return 0
        return reading.n_prompt

    def add(self, sequence: Sequence) -> None:
        """Append `sequence` to the waiting ones."""
        self.waiting.append(sequence)

    def admit(self) -> list[Sequence]:
        """Give slots to the waiting sequences whose turn it is; return those admitted.

        A sequence with which this raises waits still, or runs; `remove` takes it out, whatever it got.
        """
        admitted = []
        while self._free_slots and (sequence := self.waiting.first()) is not None:
            if self.running and not self._has_blocks_for(sequence):
                break
            if sequence.turn < 0:
                sequence.turn = self._n_turns
                self._n_turns += 1
            self.waiting.served(sequence)
            sequence.slot = self._free_slots.pop()
            bisect.insort(self.running, sequence, key=lambda sequence: sequence.turn)
            admitted.append(sequence)
        return admitted

    def steady(self) -> list[Chunk]:
        """The chunks of the last step, if the next one computes the next token of the same answers; else none.

        Between ends of KV blocks that is all that `schedule` could find. That takes 50 us for eight sequences, after a
        step that has swept the caches.
        """
        chunks = self._steady
        if len(chunks) != len(self.running):
            return []
        size = self.blocks.pool.block_size
        for chunk in chunks:
            sequence = chunk.sequence
            n_computed = sequence.n_computed
            if len(sequence.token_ids) - n_computed != 1 or n_computed % size == 0:
                return []
        return chunks

    def schedule(self, n_rows: int) -> list[Chunk]:
        """Divide at most `n_rows` rows of the next batch, and `max_outputs` logits, among the running sequences.

        Sequences that need one token come first, so that a long prompt never keeps the others from going on. What is
        left is shared out evenly between the owners of prompts; what one does not need goes to the others. Within
        all that, the older come first.
        """
        self.blocks.begin_step(self.running)
        step = _Step(n_rows, self._max_outputs)
        for sequence in [sequence for sequence in self.running if sequence.n_pending == 1]:
            self._schedule_one(sequence, step, step.n_rows)
        by_owner: defaultdict[str, list[Sequence]] = defaultdict(list)
        for sequence in self.running:
            if sequence.n_pending > 1:
                by_owner[sequence.request.owner].append(sequence)
        owners = sorted(by_owner.values(), key=lambda group: sum(sequence.n_pending for sequence in group))
        for n_owners, group in zip(range(len(owners), 0, -1), owners, strict=True):
            share = -(-step.n_rows // n_owners)
            for sequence in group:
                share -= self._schedule_one(sequence, step, share)
        chunks = [chunk for chunk in step.chunks if chunk.sequence.slot >= 0]
        is_steady = all(c.n_tokens == 1 == c.n_outputs and c.sequence.n_generated for c in chunks)
        self._steady = chunks if is_steady and len(chunks) == len(self.running) else []
        return chunks

    def _schedule_one(self, sequence: Sequence, step: _Step, n_rows: int) -> int:
        """Give `sequence` its chunk of the step, of at most `n_rows` rows; returns how many those are."""
        if sequence.slot < 0 or not n_rows:  # it has given way to one before it, or nothing is left
            return 0
        is_reading = sequence.n_pending > 1
        if is_reading and not self._must_compute(sequence, step.under_way):
            return 0
        n_tokens, _ = sequence.fit(n_rows, step.n_outputs)
        n_tokens, n_outputs = sequence.fit(self._make_room(sequence, n_tokens), step.n_outputs)
        if n_tokens:
            if is_reading:
                step.under_way.update(self.blocks.keys_to_come(sequence))
            self.blocks.grow(sequence, n_tokens)
            step.chunks.append(Chunk(sequence, n_tokens, n_outputs))
            step.n_rows -= n_tokens
            step.n_outputs -= n_outputs
        return n_tokens

    def _must_compute(self, sequence: Sequence, under_way: set[bytes]) -> bool:
        """Whether `sequence` has to compute its next block; else it is being read, or another computes it."""
        return self.blocks.read_cache(sequence) and self.blocks.next_key(sequence) not in under_way

    def take_back(self, sequences: list[Sequence]) -> None:
        """Let sequences that were admitted last wait again, first in line."""
        for sequence in sequences:
            self.remove(sequence)
            self.waiting.put_back(sequence)

    @contextmanager
    def only_running(self, sequence: Sequence) -> Iterator[None]:
        """Meanwhile, `sequence` is the only running one; it may give way, but must not be removed otherwise."""
        running, self.running = self.running, [sequence]
        try:
            yield
        finally:
            self.running = [other for other in running if other.slot >= 0]

    def remove(self, sequence: Sequence, *, is_faulty: bool = False) -> None:
        """Remove a sequence that is finished, failed or aborted; its slot and blocks are free at once. Idempotent.

        Args:
            sequence: one of this scheduler, or one that was removed before.
            is_faulty: nothing that was computed for it shall be found by others.
        """
        self.waiting.remove(sequence)
        self._steady = []
        if sequence in self.running:
            self.running.remove(sequence)
        if is_faulty:
            self.blocks.forget(sequence)
        else:
            self.blocks.release(sequence)
        if sequence.slot >= 0:
            self._free_slots.append(sequence.slot)
        sequence.slot = -1

    def _has_blocks_for(self, sequence: Sequence) -> bool:
        """Whether the free blocks suffice for `sequence` beside the running ones.

        One that had to give way waits until each of them could grow: it would only have to give way again.
        """
        wanted = self.blocks.n_wanted(sequence) + sum(map(self.blocks.n_owed, self.running))
        if sequence.turn >= 0:
            wanted += len(self.running)
        return wanted <= self.blocks.pool.n_free

    def _make_room(self, sequence: Sequence, n_tokens: int) -> int:
        """Let younger ones give way until there are blocks for `n_tokens` more; how many there are blocks for."""
        while n_tokens > self.blocks.n_room(sequence):
            youngest = self.running[-1]
            if youngest.turn <= sequence.turn:
                return self.blocks.n_room(sequence)
            self._give_way(youngest)
        return n_tokens

    def _give_way(self, sequence: Sequence) -> None:
        self.n_preempted += 1
        self.remove(sequence)
        sequence.give_way()
        self.waiting.put_back(sequence)
