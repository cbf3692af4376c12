"""The timeline of a recorded run: what `llorch trace` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llorch.bench.roofline import Roofline
from llorch.model.llama import Llama
from llorch.trace.lanes import add_lanes
from llorch.trace.operations import Operation, operations
from llorch.trace.perfetto import Timeline
from llorch.trace.records import Recording, StepRecord
from llorch.trace.slice_args import slice_args
from llorch.trace.thread_tracks import PROCESS, ThreadTracks, TracedStep
from llorch.trace.work import StepWork

Arguments = Callable[[StepRecord, int], Mapping[str, object]]
"""More arguments for the slice of an instruction of a step."""


def operations_of_run(recording: Recording, llama: Llama, kv_type: str) -> list[list[Operation]]:
    """The operations of every step, with their work."""
    labels = llama.labels_of(observed=recording.is_observed)
    work = StepWork(llama, kv_type, observed=recording.is_observed)
    return [operations(step, labels, work.of(step)) for step in recording.steps]


def run_timeline(
    recording: Recording,
    found: Sequence[Sequence[Operation]],
    n_threads: int,
    roofline: Roofline | None = None,
    more: Arguments | None = None,
) -> Timeline:
    """A track per compute thread, and one of the generation.

    Args:
        recording: what ran.
        found: the operations of every step.
        n_threads: compute threads.
        roofline: of this machine; None leaves the share of it out.
        more: what else the operations' slices say.
    """
    timeline = Timeline(recording.begun_ns)
    tracks = ThreadTracks(timeline, PROCESS, n_threads)
    for index, (step, done) in enumerate(zip(recording.steps, found, strict=True)):
        args = [slice_args(index, step, operation, roofline) for operation in done]
        if more:
            args = [{**known, **more(step, done[i].index)} for i, known in enumerate(args)]
        tracks.add(TracedStep(index, step, done, args))
    add_lanes(timeline, recording)
    return timeline
