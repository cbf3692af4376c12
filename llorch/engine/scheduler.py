"""Who computes how many tokens in the next step: no phases, no arrays.

A sequence has tokens still to compute, many while its prompt is read and one afterwards; that is all the
scheduler looks at. Admission is strictly first come, first served: a sequence is admitted when a slot is free and
all KV blocks that it may ever need are, so that it never has to be preempted.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llorch.engine.block_pool import BlockPool
from llorch.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a step computes of one sequence: its next `n_tokens` tokens, and logits of the last `n_outputs` rows.

    `draft` are further rows behind them: tokens that may be chosen next.
    """

    sequence: Sequence
    n_tokens: int
    n_outputs: int = 0
    draft: tuple[int, ...] = ()


class Scheduler:
    """The waiting and the running sequences.

    Attributes:
        waiting: sequences without a slot, oldest first.
        running: sequences with a slot and KV blocks, oldest first.
    """

    def __init__(self, pool: BlockPool, n_slots: int, max_outputs: int = sys.maxsize) -> None:
        """Set up.

        Args:
            pool: the free KV blocks.
            n_slots: sequences that may run side by side.
            max_outputs: most rows of logits of a step.
        """
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._pool = pool
        self._max_outputs = max_outputs
        self._free_slots = list(range(n_slots - 1, -1, -1))

    def add(self, sequence: Sequence) -> None:
        """Append `sequence` to the waiting ones."""
        self.waiting.append(sequence)

    def admit(self) -> list[Sequence]:
        """Give slots and KV blocks to the oldest waiting sequences; return those admitted.

        A sequence with which this raises is still the oldest waiting one; `remove` takes it out, whatever it got.
        """
        admitted = []
        while self.waiting and self._free_slots:
            sequence = self.waiting[0]
            n_blocks = self._pool.blocks_for(sequence.n_positions)
            if n_blocks > self._pool.n_free:
                break
            sequence.kv_blocks = self._pool.allocate(n_blocks)
            sequence.slot = self._free_slots.pop()
            self.running.append(sequence)
            self.waiting.popleft()
            admitted.append(sequence)
        return admitted

    def schedule(self, n_rows: int) -> list[Chunk]:
        """Divide at most `n_rows` rows of the next batch, and `max_outputs` logits, among the running sequences.

        Sequences that need one token come first, so that a long prompt never keeps the others from going on;
        within that, the older come first.
        """
        chunks, n_outputs_left = [], self._max_outputs
        for sequence in sorted(self.running, key=lambda sequence: sequence.n_pending > 1):
            n_tokens, n_outputs = sequence.fit(n_rows, n_outputs_left)
            if n_tokens:
                chunks.append(Chunk(sequence, n_tokens, n_outputs))
                n_rows -= n_tokens
                n_outputs_left -= n_outputs
        return chunks

    def take_back(self, sequences: list[Sequence]) -> None:
        """Put sequences that were admitted last back to the front of the waiting line, as they were before."""
        for sequence in reversed(sequences):
            self.remove(sequence)
            self.waiting.appendleft(sequence)

    @contextmanager
    def only_waiting(self, sequence: Sequence) -> Iterator[None]:
        """Meanwhile, `sequence` is the only waiting one; afterwards the others come behind it, if it still waits."""
        others = [other for other in self.waiting if other is not sequence]
        self.waiting.clear()
        self.waiting.append(sequence)
        try:
            yield
        finally:
            self.waiting.extend(others)

    @contextmanager
    def only_running(self, sequence: Sequence) -> Iterator[None]:
        """Meanwhile, `sequence` is the only running one; it must not be removed before the end."""
        running, self.running = self.running, [sequence]
        try:
            yield
        finally:
            self.running = running

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence that is finished, failed or aborted; its slot and blocks are free at once. Idempotent."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
        self._pool.release(sequence.kv_blocks)
        if sequence.slot >= 0:
            self._free_slots.append(sequence.slot)
        sequence.kv_blocks, sequence.slot = [], -1
