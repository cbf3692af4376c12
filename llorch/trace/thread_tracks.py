"""Tracks of the compute threads: steps, their phases, every operation, and the waits between operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from llorch.trace.operations import Operation
from llorch.trace.perfetto import Timeline, Track
from llorch.trace.records import StepRecord

PROCESS = "compute threads"

LEAST_WAIT_NS = 100
"""A thread takes some ten nanoseconds from one operation to the next; only a longer gap is shown as a wait."""


@dataclass(frozen=True, slots=True)
class TracedStep:
    """A step with what goes onto its slices.

    Attributes:
        index: of the step in the recording.
        record: as recorded.
        operations: in order.
        args: of the slices of each operation.
    """

    index: int
    record: StepRecord
    operations: Sequence[Operation]
    args: Sequence[Mapping[str, object]]


class ThreadTracks:
    """Fills one track per compute thread; thread 0 also schedules and samples.

    Args:
        timeline: gets the tracks.
        process: the group that they are shown in.
        n_threads: compute threads.
    """

    def __init__(self, timeline: Timeline, process: str, n_threads: int) -> None:
        self._timeline = timeline
        self._tracks = [timeline.track(process, f"thread {i}", i) for i in range(n_threads)]
        self._ended_ns: int | None = None

    def add(self, step: TracedStep) -> None:
        """Add a step; steps come in order."""
        record = step.record
        begun_ns = record.begun_ns
        forward_begun_ns, forward_ended_ns = record.forward_ns
        first = self._tracks[0]
        if self._ended_ns is not None:
            self._timeline.slice(first, "between steps", self._ended_ns, begun_ns, "phase")
            begun_ns = self._ended_ns
        args = {"step": step.index, "rows": record.n_rows, "outputs": record.n_outputs}
        self._timeline.slice(first, f"step {step.index}", record.begun_ns, record.ended_ns, "step", args)
        self._timeline.slice(first, "schedule", record.begun_ns, forward_begun_ns, "phase")
        self._timeline.slice(first, "forward", forward_begun_ns, forward_ended_ns, "phase")
        self._timeline.slice(first, "sample", forward_ended_ns, record.ended_ns, "phase")
        n_active = record.stamps_ns.shape[1]
        for i, track in enumerate(self._tracks):
            if i < n_active:
                self._add_operations(step, i, track)
            else:
                self._wait(track, "idle", begun_ns, record.ended_ns)
        for i in range(1, n_active):
            starts, ends = step.operations[0].thread_ns[i][0], step.operations[-1].ended_ns
            self._wait(self._tracks[i], "idle", begun_ns, starts)
            self._wait(self._tracks[i], "idle", ends, record.ended_ns)
        self._ended_ns = record.ended_ns

    def _add_operations(self, step: TracedStep, thread: int, track: Track) -> None:
        for layer, group in groupby(step.operations, key=lambda operation: operation.layer):
            if layer >= 0:
                times = [operation.thread_ns[thread] for operation in group]
                self._timeline.slice(track, f"layer {layer}", times[0][0], times[-1][1], "layer")
        free_ns = step.operations[0].thread_ns[thread][0]
        for operation, args in zip(step.operations, step.args, strict=True):
            begin_ns, end_ns = operation.thread_ns[thread]
            self._wait(track, "barrier", free_ns, begin_ns)
            self._timeline.slice(track, operation.label, begin_ns, end_ns, "operation", args)
            free_ns = end_ns
        self._wait(track, "barrier", free_ns, step.operations[-1].ended_ns)

    def _wait(self, track: Track, name: str, begin_ns: int, end_ns: int) -> None:
        if end_ns - begin_ns >= LEAST_WAIT_NS:
            self._timeline.slice(track, name, begin_ns, end_ns, "barrier")
