"""What a recorder notes while an engine computes, and the records that are made of it afterwards.

Notes of passes are plain tuples: a record takes as long to make as some operations take to run, and whatever holds
other objects is looked at by every garbage collection. The named tuples here give the values names when there is time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from llorch.engine.scheduler import Chunk
from llorch.trace.records import ChunkRecord, EngineState, FailedPass

RowsNotes: TypeAlias = tuple[str, int, int, int, int, int, int, bool, int, float, float]
"""The values of `Rows`."""
BatchNotes: TypeAlias = tuple[tuple[RowsNotes, ...], int, tuple[int, ...], int]
"""The values of `Batch`."""
StateNotes: TypeAlias = tuple[int, int, int, int, int]
"""The values of `EngineState` but for the last."""
PassNotes: TypeAlias = tuple[
    BatchNotes, StateNotes, int, int, int, int, int, int, int, int, tuple[int, ...]
]  # fmt: skip
"""The values of `Pass`."""


class Rows(NamedTuple):
    """A chunk when its sequence has `n_tokens_then` tokens; `ChunkRecord` and `Sequence` explain the others."""

    job_id: str
    turn: int
    n_tokens: int
    first_position: int
    n_drafted: int
    n_prompt: int
    n_cached: int
    is_again: bool
    n_tokens_then: int
    submitted_s: float
    admitted_s: float


class Batch(NamedTuple):
    """What passes have in common that compute one token after the other of the same sequences.

    Attributes:
        rows: of each chunk, in the first of the passes.
        n_outputs: rows whose logits are computed.
        n_chosen: tokens that were chosen afterwards, of each chunk.
        n_cached: tokens that were found in the cache since the recording began.
    """

    rows: tuple[RowsNotes, ...]
    n_outputs: int
    n_chosen: tuple[int, ...]
    n_cached: int


class Pass(NamedTuple):
    """A forward pass.

    Attributes:
        batch: what it has in common with its neighbours.
        state: of the engine afterwards.
        n_before: tokens that the sequence of the first chunk had; all have grown alike since the first of these passes.
        begun_ns, ended_ns: of its step, or of its part of a step that has several passes.
        forward_begun_ns, forward_ended_ns: of the pass as its caller sees it.
        address: of its stamps (`Stamps.kept_at`), 0 where there was no room for them, or `FAILED`.
        n_run, n_active: instructions and threads.
        off_core_ns: how long each thread was without a core.
    """

    batch: BatchNotes
    state: StateNotes
    n_before: int
    begun_ns: int
    forward_begun_ns: int
    forward_ended_ns: int
    ended_ns: int
    address: int
    n_run: int
    n_active: int
    off_core_ns: tuple[int, ...]


ADDRESS = Pass._fields.index("address")
FAILED = -1
"""In place of the address of a pass that raised."""


@dataclass(frozen=True, slots=True)
class NotedChunks:
    """Chunks as they were when they were first computed.

    Attributes:
        chunks: these.
        rows: their `Rows`.
        texts: the tokens of their sequences, which grow.
        lengths: how many those were.
        found: tokens of their prompts that were found in the cache; 0 where tokens have been chosen already.
        n_outputs: rows whose logits are computed.
    """

    chunks: Sequence[Chunk]
    rows: tuple[RowsNotes, ...]
    texts: list[list[int]]
    lengths: list[int]
    found: list[int]
    n_outputs: int

    def n_chosen(self, n_before: int) -> tuple[int, ...]:
        """Tokens that were chosen for each chunk, since the first sequence had `n_before` tokens."""
        n_later = n_before - self.lengths[0]
        pairs = zip(self.texts, self.lengths)  # noqa: B905 (it takes time)
        return tuple([len(text) - length - n_later for text, length in pairs])

    def n_cached(self, n_chosen: tuple[int, ...]) -> int:
        """Cached tokens of the prompts whose first tokens were chosen."""
        return sum([found for found, n in zip(self.found, n_chosen) if n])  # noqa: B905


NO_CHUNKS = NotedChunks((), (), [], [], [], 0)


def noted_chunks(chunks: Sequence[Chunk]) -> NotedChunks:
    """Take down chunks whose pass begins."""
    sequences = [chunk.sequence for chunk in chunks]
    texts = [sequence.token_ids for sequence in sequences]
    return NotedChunks(
        chunks,
        tuple([_rows_notes(chunk) for chunk in chunks]),
        texts,
        [len(text) for text in texts],
        [0 if sequence.n_generated else sequence.n_cached for sequence in sequences],
        sum([chunk.n_outputs for chunk in chunks]),
    )


def _rows_notes(chunk: Chunk) -> RowsNotes:
    sequence, n_drafted = chunk.sequence, len(chunk.draft)
    request, first = sequence.request, sequence.n_computed
    return (
        request.job_id,
        sequence.turn,
        chunk.n_tokens + n_drafted,
        first,
        n_drafted,
        len(request.token_ids),
        sequence.n_cached,
        first < sequence.n_seen,
        len(sequence.token_ids),
        sequence.submitted_s,
        sequence.admitted_s,
    )


def failed_pass(notes: PassNotes) -> FailedPass:
    """The record of a pass that raised."""
    failed = Pass(*notes)
    return FailedPass(failed.begun_ns, failed.ended_ns, chunk_records(failed))


def engine_state(done: Pass) -> EngineState:
    """The engine after a pass."""
    return EngineState(*done.state, Batch(*done.batch).n_cached)


def chunk_records(done: Pass) -> tuple[ChunkRecord, ...]:
    """Whose rows a pass computed."""
    batch = Batch(*done.batch)
    chunks = [Rows(*rows) for rows in batch.rows]
    n_later = done.n_before - chunks[0].n_tokens_then
    return tuple(_record(rows, n_later, n) for rows, n in zip(chunks, batch.n_chosen, strict=True))


def _record(rows: Rows, n_later: int, n_chosen: int) -> ChunkRecord:
    first_position = rows.first_position + n_later
    return ChunkRecord(
        job_id=rows.job_id,
        turn=rows.turn,
        n_tokens=rows.n_tokens,
        first_position=first_position,
        is_prompt=first_position < rows.n_prompt,
        n_chosen=n_chosen,
        n_drafted=rows.n_drafted,
        n_before=rows.n_tokens_then + n_later - rows.n_prompt,
        n_prompt=rows.n_prompt,
        n_cached=rows.n_cached,
        is_again=rows.is_again,
        submitted_ns=round(rows.submitted_s * 1e9),
        admitted_ns=round(rows.admitted_s * 1e9),
    )
