"""Records what an engine does, step by step; nothing is worked out before the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter_ns

from llorch.engine.block_pool import BlockPool
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.engine.step_watch import PassTimes
from llorch.model.llama import Llama
from llorch.trace.core_clocks import CoreClocks
from llorch.trace.notes import NotedChunks, PassRun, noted_chunks
from llorch.trace.records import FailedPass, Recording, StepRecord
from llorch.trace.tick_clock import TickClock

MAX_BYTES = 16 << 20
"""Most memory for stamps: a million slices of operations, which is what viewers can still show."""

_UNLIKE = -1
"""In place of the number of running sequences: the next pass is not like one that was noted."""


class Recorder:
    """A `StepWatcher` that keeps what it is told.

    Args:
        llama: the model of the engine that is watched.
        max_bytes: most memory for stamps; later passes are counted and not kept.
        keeps_stamps: whether the stamps of operations are kept; a step takes little room without them.
        observed: whether steps run the observed program, which writes out what is fused otherwise.
        watches_cores: whether it is noted how long threads were without a core, which costs some microseconds a step;
            the recorder is then made by the thread that computes.

    Attributes:
        chunks, stamps: as `StepWatcher` has them.
        n_room: passes that it can keep.
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
        self.chunks: Sequence[Chunk] | None = None
        self.stamps = llama.new_stamps(max_bytes if keeps_stamps else None, observed=observed)
        self.keeps_stamps = keeps_stamps
        self._clocks = CoreClocks(llama.thread_idents) if watches_cores else None
        self._runs: list[PassRun] = []
        self._failed: list[FailedPass] = []
        self._n_cached = 0
        self._noted: NotedChunks
        self._n_later = 0  # passes of the noted chunks before those of the latest run
        self._times: list[PassTimes] = []  # of the latest run
        self._n_running = self._n_waiting = _UNLIKE
        self._clock = TickClock()
        self._begun_ns = perf_counter_ns()
        self._ended_ns: int | None = None

    def begin_pass(self, chunks: Sequence[Chunk]) -> None:
        """Note whose rows are computed."""
        self._noted, self._n_later, self._times = noted_chunks(chunks), 0, []
        self._n_running = _UNLIKE
        if self._clocks is None:
            self.chunks = chunks
        else:
            self._clocks.begin()

    def end_pass(self, times: PassTimes, scheduler: Scheduler, pool: BlockPool) -> None:
        """Keep the pass."""
        # Few instructions run where it is like the one before: each costs many times what it costs in a loop, for the
        # pass has swept caches and forecasts. One that ends no generation chooses a token for each of the same
        # sequences, and leaves the pool as it was.
        if len(scheduler.running) == self._n_running and len(scheduler.waiting) == self._n_waiting:
            self._times.append(times)
        elif self._ended_ns is None:
            self._begin_run(times, scheduler, pool)

    def fail_pass(self, begun_s: float) -> None:
        """Keep the pass apart."""
        self.chunks, self._n_running, noted = None, _UNLIKE, self._noted
        if self._ended_ns is None:
            n_later = self._n_later + len(self._times)
            chunks = noted.records((0,) * len(noted.rows), n_later)
            self._failed.append(FailedPass(_ns(begun_s), perf_counter_ns(), chunks))

    def _begin_run(self, times: PassTimes, scheduler: Scheduler, pool: BlockPool) -> None:
        """Keep a pass that is not like the one before."""
        n_later = self._n_later = self._n_later + len(self._times)
        n_chosen, n_kept = self._noted.n_chosen(n_later), pool.n_kept
        self._n_cached += self._noted.n_cached(n_chosen)
        self._n_running, self._n_waiting = len(scheduler.running), len(scheduler.waiting)
        self._times = [times]
        self._runs.append(
            PassRun(
                noted=self._noted,
                n_later=n_later,
                n_chosen=n_chosen,
                n_cached=self._n_cached,
                state=(self._n_running, self._n_waiting, pool.n_blocks, pool.n_free - n_kept, n_kept),
                first=self.stamps.n_begun - 1 if self.keeps_stamps else 0,
                times=self._times,
                off_core_ns=self._clocks.off_ns() if self._clocks is not None else (),
            )
        )

    @property
    def has_stopped(self) -> bool:
        """Whether watching has ended."""
        return self._ended_ns is not None

    def stop(self) -> None:
        """Note that watching has ended. Idempotent; `finish` does it, too."""
        if self._ended_ns is None:
            self._ended_ns = perf_counter_ns()
            self.chunks, self._n_running = None, _UNLIKE
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
            n_dropped=sum(len(run.times) - self._n_kept(run) for run in self._runs),
            failed=tuple(self._failed),
            is_observed=self.stamps.is_observed,
        )

    def _n_kept(self, run: PassRun) -> int:
        """Passes of the run for which there was room."""
        n = len(run.times)
        return min(n, max(0, self.stamps.n_room - run.first)) if self.keeps_stamps else n

    def steps(self) -> Iterator[StepRecord]:
        """The steps of `finish`, one after the other, for callers who do not want to hold all of them."""
        self.stop()
        for run in self._runs:
            for i in range(self._n_kept(run)):
                yield self._step(run, i)

    def _step(self, run: PassRun, i: int) -> StepRecord:
        """The record of pass `i` of a run."""
        begun_s, forward_s, forward_lasted_s, ended_s = run.times[i]
        ticks = self.stamps.of_pass(run.first + i) if self.keeps_stamps else self.stamps.ticks[:0]
        return StepRecord(
            begun_ns=_ns(begun_s),
            forward_ns=(_ns(forward_s), _ns(forward_s + forward_lasted_s)),
            ended_ns=_ns(ended_s),
            chunks=run.noted.records(run.n_chosen, run.n_later + i),
            n_outputs=run.noted.n_outputs,
            stamps_ns=self._clock.ns(ticks),
            state=run.engine_state,
            off_core_ns=run.off_core_ns[: ticks.shape[1]],
        )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
