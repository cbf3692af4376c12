"""Records what an engine does, step by step; nothing is worked out before the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter_ns

from llorch.engine.block_pool import BlockPool
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.model.llama import Llama
from llorch.observe.stamps import Stamps
from llorch.trace.core_clocks import CoreClocks
from llorch.trace.notes import (
    ADDRESS,
    FAILED,
    NO_CHUNKS,
    Batch,
    BatchNotes,
    Pass,
    PassNotes,
    StateNotes,
    chunk_records,
    engine_state,
    failed_pass,
    noted_chunks,
)
from llorch.trace.records import Recording, StepRecord
from llorch.trace.tick_clock import TickClock

MAX_BYTES = 512 << 20
"""Most memory for stamps; later steps are counted and not kept."""

_UNLIKE = -1
"""In place of the number of running sequences: the next step to end is not like one that was noted."""


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
        self.keeps_stamps = keeps_stamps
        if keeps_stamps:
            self._stamps.reserve(max_bytes)
        self._keep_stamps = self._stamps.keep if keeps_stamps else self._no_stamps
        self._clocks = CoreClocks(llama.thread_idents) if watches_cores else None
        self._n_dropped = 0
        self._kept: list[PassNotes] = []
        self._failed: list[PassNotes] = []
        self._n_cached = 0
        self._noted = NO_CHUNKS
        self._text: list[int] = []  # the first of their sequences
        self._n_before = 0  # its tokens before the pass
        self._batch: BatchNotes = (), 0, (), 0
        self._state: StateNotes = 0, 0, 0, 0, 0
        self._n_running = self._n_waiting = _UNLIKE
        self._earlier: list[PassNotes] = []  # passes of this step but for the last
        self._pass_begun_ns = self._forward_begun_ns = self._forward_ended_ns = 0
        self._off_core_ns: tuple[int, ...] = ()
        self._clock = TickClock()
        self._begun_ns = perf_counter_ns()
        self._ended_ns: int | None = None

    # Few instructions run in a step that is like the one before: each costs many times what it costs in a loop, for
    # the model's pass has swept caches and forecasts.

    def begin_step(self) -> None:
        """Note when."""
        self._pass_begun_ns = perf_counter_ns()

    def begin_forward(self, chunks: Sequence[Chunk]) -> Stamps:
        """Note whose rows are computed."""
        if chunks is not self._noted.chunks:
            self._note(chunks)
        self._n_before = len(self._text)
        self._forward_begun_ns = perf_counter_ns()
        if self._clocks is not None:
            self._clocks.begin()
        return self._stamps

    def end_forward(self) -> None:
        """Note when."""
        if self._clocks is not None:
            self._off_core_ns = self._clocks.off_ns()
        self._forward_ended_ns = perf_counter_ns()

    def end_step(self, scheduler: Scheduler, pool: BlockPool) -> None:
        """Keep the step, if it computed something and there is room."""
        now_ns, begun_ns, forward_begun_ns = perf_counter_ns(), self._pass_begun_ns, self._forward_begun_ns
        # A step like the one before that ends no generation chooses a token for each, and leaves the pool as it was.
        if (
            len(scheduler.running) != self._n_running
            or len(scheduler.waiting) != self._n_waiting
            or forward_begun_ns < begun_ns
        ):
            self._end_unlike(now_ns, scheduler, pool)
            return
        address, stamps = self._keep_stamps(), self._stamps
        if not address:
            self._n_dropped += 1
            return
        self._kept.append(
            (
                self._batch, self._state, self._n_before, begun_ns, forward_begun_ns, self._forward_ended_ns, now_ns,
                address, stamps.n_run, stamps.n_active, self._off_core_ns,
            )
        )  # fmt: skip

    def _note(self, chunks: Sequence[Chunk]) -> None:
        """Take down whose rows the passes of `chunks` compute."""
        if self._forward_begun_ns >= self._pass_begun_ns:  # in this step already
            self._earlier.append(self._end_pass(perf_counter_ns(), self._state))
        else:
            self._earlier = []
        self._noted = noted = noted_chunks(chunks)
        self._text, self._n_running = noted.texts[0], _UNLIKE

    def _no_stamps(self) -> int:
        """In place of `Stamps.keep`, where none are kept."""
        return self._stamps.address

    def _end_pass(self, now_ns: int, state: StateNotes) -> PassNotes:
        """The pass that is over now; in a step of several the next one begins."""
        begun_ns, self._pass_begun_ns = self._pass_begun_ns, now_ns
        forward_begun_ns, forward_ended_ns = self._forward_begun_ns, self._forward_ended_ns
        noted, stamps, n_before, address = self._noted, self._stamps, self._n_before, FAILED
        n_chosen: tuple[int, ...] = (0,) * len(noted.rows)
        if forward_ended_ns > forward_begun_ns:
            n_chosen = noted.n_chosen(n_before)
            address = self._keep_stamps()
            self._n_cached += noted.n_cached(n_chosen)
        self._batch = noted.rows, noted.n_outputs, n_chosen, self._n_cached
        return (
            self._batch, state, n_before, begun_ns, forward_begun_ns, forward_ended_ns, now_ns,
            address, stamps.n_run, stamps.n_active, self._off_core_ns,
        )  # fmt: skip

    def _end_unlike(self, now_ns: int, scheduler: Scheduler, pool: BlockPool) -> None:
        """End a step that is not like the one before."""
        if self._forward_begun_ns < self._pass_begun_ns or self._ended_ns is not None:
            return
        n_running, n_waiting, n_kept = len(scheduler.running), len(scheduler.waiting), pool.n_kept
        self._state = state = n_running, n_waiting, pool.n_blocks, pool.n_free - n_kept, n_kept
        earlier, self._earlier = [Pass(*notes)._replace(state=state) for notes in self._earlier], []
        for done in (*earlier, self._end_pass(now_ns, state)):
            address = done[ADDRESS]
            if address == FAILED:
                self._failed.append(done)
            elif address:
                self._kept.append(done)
            else:
                self._n_dropped += 1
        self._n_running, self._n_waiting = n_running, n_waiting

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
            self._ended_ns = perf_counter_ns()
            self._n_running = _UNLIKE
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
            failed=tuple(map(failed_pass, self._failed)),
            is_observed=self._stamps.is_observed,
        )

    def steps(self) -> Iterator[StepRecord]:
        """The steps of `finish`, one after the other, for callers who do not want to hold all of them."""
        self.stop()
        for notes in self._kept:
            kept = Pass(*notes)
            n_run = kept.n_run if self.keeps_stamps else 0
            yield StepRecord(
                begun_ns=kept.begun_ns,
                forward_ns=(kept.forward_begun_ns, kept.forward_ended_ns),
                ended_ns=kept.ended_ns,
                chunks=chunk_records(kept),
                n_outputs=Batch(*kept.batch).n_outputs,
                stamps_ns=self._clock.ns(self._stamps.kept_at(kept.address, n_run, kept.n_active)),
                state=engine_state(kept),
                off_core_ns=kept.off_core_ns[: kept.n_active],
            )
