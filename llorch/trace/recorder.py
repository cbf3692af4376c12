"""Records what an engine does, step by step; nothing is worked out before the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from llorch.engine.block_pool import BlockPool
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.model.llama import Llama
from llorch.observe.stamps import Stamped, Stamps
from llorch.trace.core_clocks import CoreClocks
from llorch.trace.records import ChunkRecord, EngineState, FailedPass, Recording, StepRecord
from llorch.trace.tick_clock import TickClock

MAX_BYTES = 512 << 20
"""Most memory for stamps; later steps are counted and not kept."""


# What is noted while the engine computes are plain tuples and numbers: a record of `llorch.trace.records` takes as long
# to make as some operations take to run.


class _Rows(NamedTuple):
    """A chunk when its pass begins."""

    turn: int
    n_tokens: int
    first_position: int
    n_drafted: int
    n_before: int
    n_cached: int
    is_again: bool


class _Generation(NamedTuple):
    """What does not change about a generation."""

    job_id: str
    n_prompt: int
    submitted_s: float
    admitted_s: float


_Noted = tuple[int, int, int, int, int, int, bool]
"""The values of `_Rows`: a plain tuple is made in a tenth of the time."""


class _Pass:
    """A forward pass. What is not known when it begins has a default here: writing it takes time, too."""

    forward_ended_ns = 0
    begun_ns = 0
    ended_ns = 0
    stamped: Stamped | None = None
    n_chosen: Sequence[int] = ()
    state: tuple[int, ...] = ()
    off_core_ns: tuple[int, ...] = ()

    def __init__(self, chunks: Sequence[Chunk], rows: list[_Noted], n_outputs: int) -> None:
        self.chunks = chunks
        self.rows = rows
        self.n_outputs = n_outputs
        self.forward_begun_ns = time.perf_counter_ns()


class Recorder:
    """A `StepWatcher` that keeps what it is told.

    Args:
        llama: the model of the engine that is watched.
        max_bytes: most memory for stamps.
        keeps_stamps: whether the stamps of operations are kept; a step takes little room without them.
        observed: whether steps run the observed program, which writes out what is fused otherwise.
        watches_cores: whether it is noted how long threads were without a core, which costs some microseconds a step;
            the recorder is then made by the thread that computes.
    """

    def __init__(
        self,
        llama: Llama,
        max_bytes: int = MAX_BYTES,
        *,
        keeps_stamps: bool = True,
        observed: bool = False,
        watches_cores: bool = False,
    ) -> None:
        self._stamps = llama.new_stamps(observed=observed)
        self._max_bytes = max_bytes
        self.keeps_stamps = keeps_stamps
        if keeps_stamps:
            self._stamps.reserve()
        self._clocks = CoreClocks(llama.thread_idents) if watches_cores else None
        self._n_bytes = 0
        self._n_dropped = 0
        self._generations: dict[int, _Generation] = {}
        self._passes: list[_Pass] = []
        self._kept: list[_Pass] = []
        self._failed: list[_Pass] = []
        self._step_begun_ns = 0
        self._n_cached = 0
        self._clock = TickClock()
        self._begun_ns = time.perf_counter_ns()
        self._ended_ns: int | None = None

    def begin_step(self) -> None:
        """Note when."""
        self._passes = []
        self._step_begun_ns = time.perf_counter_ns()

    def begin_forward(self, chunks: Sequence[Chunk]) -> Stamps:
        """Note whose rows are computed."""
        rows = [self._rows(chunk) for chunk in chunks]
        self._passes.append(_Pass(chunks, rows, sum([chunk.n_outputs for chunk in chunks])))
        if self._clocks:
            self._clocks.begin()
        return self._stamps

    def _rows(self, chunk: Chunk) -> _Noted:
        sequence, n_drafted, first = chunk.sequence, len(chunk.draft), chunk.sequence.n_computed
        turn = sequence.turn
        if turn not in self._generations:
            self._generations[turn] = _Generation(
                sequence.request.job_id, sequence.n_prompt, sequence.submitted_s, sequence.admitted_s
            )
        return (
            turn,
            chunk.n_tokens + n_drafted,
            first,
            n_drafted,
            sequence.n_generated,
            sequence.n_cached,
            first < sequence.n_seen,
        )

    def end_forward(self) -> None:
        """Keep the stamps, if there is room."""
        done = self._passes[-1]
        if self._clocks:
            done.off_core_ns = self._clocks.off_ns()
        done.forward_ended_ns = time.perf_counter_ns()
        if not self.keeps_stamps:
            done.stamped = self._stamps.last._replace(n_run=0)
        else:
            n_bytes = self._n_bytes + self._stamps.n_bytes
            if n_bytes <= self._max_bytes:
                done.stamped = self._stamps.keep()
                self._n_bytes = n_bytes

    def end_step(self, scheduler: Scheduler, pool: BlockPool) -> None:
        """Keep the step, if it computed something and there is room."""
        if self._ended_ns is not None or not self._passes:
            return
        now_ns = time.perf_counter_ns()
        begun_ns = self._step_begun_ns
        for i, done in enumerate(self._passes):
            is_last = i + 1 == len(self._passes)
            done.begun_ns = begun_ns
            done.ended_ns = begun_ns = now_ns if is_last else self._passes[i + 1].forward_begun_ns
            if not done.forward_ended_ns:
                self._failed.append(done)
            elif done.stamped is None:
                self._n_dropped += 1
            else:
                self._note_chosen(done)
                n_running, n_kept = len(scheduler.running), pool.n_kept
                n_free = pool.n_free - n_kept
                done.state = (
                    n_running,
                    len(scheduler.waiting),
                    pool.n_blocks,
                    n_free,
                    n_kept,
                    self._n_cached,
                )
                self._kept.append(done)

    def _note_chosen(self, done: _Pass) -> None:
        chosen = []
        for chunk, (_, _, _, _, n_before, n_cached, _) in zip(done.chunks, done.rows):  # noqa: B905 (takes time)
            n_chosen = chunk.sequence.n_generated - n_before
            if n_chosen and not n_before:
                self._n_cached += n_cached
            chosen.append(n_chosen)
        done.n_chosen, done.chunks = chosen, ()

    @property
    def n_steps(self) -> int:
        """Steps that were kept."""
        return len(self._kept)

    @property
    def is_full(self) -> bool:
        """Whether a step was not kept for lack of room."""
        return self._n_dropped > 0

    @property
    def has_stopped(self) -> bool:
        """Whether watching has ended."""
        return self._ended_ns is not None

    def stop(self) -> None:
        """Note that watching has ended. Idempotent; `finish` does it, too."""
        if self._ended_ns is None:
            self._ended_ns = time.perf_counter_ns()
            self._clock.stop()

    def finish(self) -> Recording:
        """What was recorded; the engine must not tell it anything any more."""
        self.stop()
        return replace(self.bounds, steps=tuple(self.steps()))

    @property
    def bounds(self) -> Recording:
        """What `finish` says, but for the steps; after `stop`."""
        assert self._ended_ns is not None
        return Recording(
            begun_ns=self._begun_ns,
            ended_ns=self._ended_ns,
            steps=(),
            n_dropped=self._n_dropped,
            failed=tuple(
                FailedPass(failed.begun_ns, failed.ended_ns, self._records(failed)) for failed in self._failed
            ),
            is_observed=self._stamps.is_observed,
        )

    def steps(self) -> Iterator[StepRecord]:
        """The steps of `finish`, one after the other, for callers who do not want to hold all of them."""
        self.stop()
        for kept in self._kept:
            assert kept.stamped is not None
            yield StepRecord(
                begun_ns=kept.begun_ns,
                forward_ns=(kept.forward_begun_ns, kept.forward_ended_ns),
                ended_ns=kept.ended_ns,
                chunks=self._records(kept),
                n_outputs=kept.n_outputs,
                stamps_ns=self._clock.ns(kept.stamped.ticks),
                state=EngineState(*kept.state),
                off_core_ns=kept.off_core_ns[: kept.stamped.n_active],
            )

    def _records(self, done: _Pass) -> tuple[ChunkRecord, ...]:
        n_chosen = done.n_chosen or [0] * len(done.rows)
        return tuple(self._record(_Rows(*rows), n) for rows, n in zip(done.rows, n_chosen, strict=True))

    def _record(self, rows: _Rows, n_chosen: int) -> ChunkRecord:
        generation = self._generations[rows.turn]
        return ChunkRecord(
            job_id=generation.job_id,
            turn=rows.turn,
            n_tokens=rows.n_tokens,
            first_position=rows.first_position,
            is_prompt=rows.first_position < generation.n_prompt,
            n_chosen=n_chosen,
            n_drafted=rows.n_drafted,
            n_before=rows.n_before,
            n_prompt=generation.n_prompt,
            n_cached=rows.n_cached,
            is_again=rows.is_again,
            submitted_ns=round(generation.submitted_s * 1e9),
            admitted_ns=round(generation.admitted_s * 1e9),
        )
