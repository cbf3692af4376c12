"""What a recorder notes while an engine computes, and the records that are made of it afterwards.

Notes are plain tuples: a record takes as long to make as some operations take to run. The named tuples here give the
values names when there is time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from llorch.engine.scheduler import Chunk
from llorch.engine.step_watch import PassTimes
from llorch.trace.records import ChunkRecord, EngineState

RowsNotes: TypeAlias = tuple[str, int, int, int, int, int, int, bool, int, float, float]
"""The values of `Rows`."""
StateNotes: TypeAlias = tuple[int, int, int, int, int]
"""The values of `EngineState` but for the last."""


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


@dataclass(frozen=True, slots=True)
class NotedChunks:
    """Chunks as they were when they were first computed.

    Attributes:
        rows: their `Rows`.
        texts: the tokens of their sequences, which grow.
        lengths: how many those were.
        found: tokens of their prompts that were found in the cache; 0 where tokens have been chosen already.
        n_outputs: rows whose logits are computed.
    """

    rows: tuple[RowsNotes, ...]
    texts: list[list[int]]
    lengths: list[int]
    found: list[int]
    n_outputs: int

    def n_chosen(self, n_later: int) -> tuple[int, ...]:
        """Tokens that the latest pass has chosen for each chunk, where `n_later` passes have chosen one each before."""
        pairs = zip(self.texts, self.lengths)  # noqa: B905 (it takes time)
        return tuple([len(text) - length - n_later for text, length in pairs])

    def n_cached(self, n_chosen: tuple[int, ...]) -> int:
        """Cached tokens of the prompts whose first tokens were chosen."""
        return sum([found for found, n in zip(self.found, n_chosen) if n])  # noqa: B905

    def records(self, n_chosen: tuple[int, ...], n_later: int) -> tuple[ChunkRecord, ...]:
        """Whose rows a pass computed, after which each sequence had `n_later` tokens more."""
        chunks = zip(self.rows, n_chosen, strict=True)
        return tuple(_record(Rows(*rows), n_later, n) for rows, n in chunks)


@dataclass(slots=True)
class PassRun:
    """Passes that compute one token after the other of the same sequences, or a single one of another kind.

    Attributes:
        noted: whose rows.
        n_later: passes of the same chunks before these.
        n_chosen: tokens that were chosen after each, for each chunk.
        n_cached: tokens that were found in the cache since the recording began.
        state: of the engine after each.
        first: which of the stamped passes the first is.
        times: of each.
        off_core_ns: how long each thread was without a core.
    """

    noted: NotedChunks
    n_later: int
    n_chosen: tuple[int, ...]
    n_cached: int
    state: StateNotes
    first: int
    times: list[PassTimes]
    off_core_ns: tuple[int, ...]

    @property
    def engine_state(self) -> EngineState:
        """The engine after each pass."""
        return EngineState(*self.state, self.n_cached)


def noted_chunks(chunks: Sequence[Chunk]) -> NotedChunks:
    """Take down chunks whose pass begins."""
    sequences = [chunk.sequence for chunk in chunks]
    texts = [sequence.token_ids for sequence in sequences]
    return NotedChunks(
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
