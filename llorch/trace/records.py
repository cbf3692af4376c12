"""What was recorded, as plain data: all times are those of `time.perf_counter_ns`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """What a step computed of one sequence.

    Attributes:
        job_id: its generation.
        turn: number of the sequence's first admission; unlike `job_id`, never used twice.
        n_tokens: rows of the step, drafted ones included.
        first_position: position of the first of them.
        is_prompt: whether they belong to the prompt.
        n_chosen: tokens that were chosen afterwards.
        n_drafted: rows of drafted tokens, at the end.
        n_before: tokens of the answer that were there before.
        n_prompt: tokens of the prompt.
        n_cached: those of them that were found in the cache.
        is_again: whether they were computed before, and the sequence had to give way.
        submitted_ns, admitted_ns: when the engine got the generation, and when it first gave it a place.
    """

    job_id: str
    turn: int
    n_tokens: int
    first_position: int
    is_prompt: bool
    n_chosen: int
    n_drafted: int = 0
    n_before: int = 0
    n_prompt: int = 0
    n_cached: int = 0
    is_again: bool = False
    submitted_ns: int = 0
    admitted_ns: int = 0


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A generation that was open while steps were watched, as the service that took it saw it.

    Attributes:
        job_id: its name.
        submitted_ns: when it was accepted.
        ended_ns: when it had its last event; None: it was open when watching ended.
        outcome: how it ended, in one word: a finish reason or the code of an error.
        n_prompt: tokens of the prompt; 0 where they were not known yet.
        n_generated: tokens of the answer.
        was_admitted: whether it ever had a place in the engine.
    """

    job_id: str
    submitted_ns: int
    ended_ns: int | None
    outcome: str
    n_prompt: int
    n_generated: int
    was_admitted: bool


@dataclass(frozen=True, slots=True)
class EngineState:
    """Some numbers of the engine after a step, for counter tracks."""

    n_running: int
    n_waiting: int
    n_blocks: int
    n_free_blocks: int
    n_kept_blocks: int
    n_cached_tokens: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of the engine, with one forward pass.

    Attributes:
        begun_ns: sequences are scheduled from here on.
        forward_ns: begin and end of the forward pass, as its caller sees it.
        ended_ns: tokens are chosen, and the step is over.
        chunks: whose rows were computed, in the order of the batch.
        n_outputs: rows whose logits were computed.
        stamps_ns: int64 (n_run, n_active, 2), begin and end of every instruction on every thread; instruction i has the
            label `Llama.labels_of(...)[i]`. What lies between two instructions of a thread was spent at a barrier.
        state: of the engine afterwards.
        off_core_ns: how long each compute thread was without a core during the pass; empty where nobody looked.
    """

    begun_ns: int
    forward_ns: tuple[int, int]
    ended_ns: int
    chunks: tuple[ChunkRecord, ...]
    n_outputs: int
    stamps_ns: NDArray[np.int64]
    state: EngineState
    off_core_ns: tuple[int, ...] = ()

    @property
    def n_rows(self) -> int:
        """Rows of the batch."""
        return sum(chunk.n_tokens for chunk in self.chunks)

    @property
    def positions(self) -> list[int]:
        """Position of every row of the batch."""
        return [c.first_position + i for c in self.chunks for i in range(c.n_tokens)]


@dataclass(frozen=True, slots=True)
class FailedPass:
    """A forward pass that raised: its chunks were computed again one by one, or their generations failed.

    Attributes:
        begun_ns, ended_ns: from the begin of its step, or the end of the pass before, to when the next thing happened.
        chunks: whose rows it was about.
    """

    begun_ns: int
    ended_ns: int
    chunks: tuple[ChunkRecord, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Steps that were watched from begin to end.

    Attributes:
        begun_ns, ended_ns: from when to when they were watched.
        steps: in order.
        n_dropped: steps that were not kept, since there were too many.
        failed: passes that computed nothing.
        is_observed: whether the observed program ran; it has other labels (`Llama.labels_of`).
    """

    begun_ns: int
    ended_ns: int
    steps: tuple[StepRecord, ...]
    n_dropped: int
    failed: tuple[FailedPass, ...] = ()
    is_observed: bool = False
