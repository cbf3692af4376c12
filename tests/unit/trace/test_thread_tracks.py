"""What the tracks of threads show of a step, from stamps that are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llorch.trace.operations import operations
from llorch.trace.perfetto import Timeline
from llorch.trace.records import EngineState, StepRecord
from llorch.trace.thread_tracks import ThreadTracks, TracedStep
from tests.support.perfetto.trace_file import TraceFile, overlaps, read_trace

LABELS = [("embed", -1), ("norm", 0), ("attn_q", 0), ("output", -1)]


def step(begun_ns: int, times: list[list[tuple[int, int]]]) -> StepRecord:
    """A step of 10 µs whose forward pass takes its middle; `times` per instruction and thread count from its begin."""
    state = EngineState(1, 0, 4, 3, 0, 0)
    stamps = np.array(times, np.int64) + begun_ns
    return StepRecord(begun_ns, (begun_ns + 1000, begun_ns + 9000), begun_ns + 10_000, (), 1, stamps, state)


def shown(tmp_path: Path, n_threads: int, *steps: StepRecord) -> TraceFile:
    timeline = Timeline(steps[0].begun_ns)
    tracks = ThreadTracks(timeline, "compute", n_threads)
    for index, record in enumerate(steps):
        found = operations(record, LABELS, None)
        tracks.add(TracedStep(index, record, found, [{"layer": o.layer} for o in found]))
    timeline.write(tmp_path / "t.json", {})
    trace = read_trace(tmp_path / "t.json")
    assert not any(overlaps(slices) for slices in trace.slices.values())
    return trace


def names(trace: TraceFile, track: str, *categories: str) -> list[tuple[str, int, int]]:
    found = trace.slices[track]
    return [(s.name, s.begin_ns, s.end_ns) for s in found if s.category in categories]


TWO_THREADS = [
    [(1500, 2000), (1600, 2900)],
    [(3000, 4000), (3010, 3500)],
    [(4010, 6000), (4020, 7000)],
    [(7200, 8000), (7210, 8800)],
]


def test_waits_between_operations_are_barriers_and_waits_around_the_pass_idle(tmp_path: Path) -> None:
    trace = shown(tmp_path, 3, step(0, TWO_THREADS))
    assert names(trace, "thread 0", "barrier") == [
        ("barrier", 2000, 3000),
        ("barrier", 6000, 7200),
        ("barrier", 8000, 8800),
    ]
    assert names(trace, "thread 1", "barrier") == [
        ("idle", 0, 1600),
        ("barrier", 2900, 3010),
        ("barrier", 3500, 4020),
        ("barrier", 7000, 7210),
        ("idle", 8800, 10_000),
    ]
    assert names(trace, "thread 2", "barrier") == [("idle", 0, 10_000)]


def test_operations_lie_in_their_layer_and_phases_in_their_step(tmp_path: Path) -> None:
    trace = shown(tmp_path, 2, step(0, TWO_THREADS))
    assert names(trace, "thread 0", "operation") == [
        ("embed", 1500, 2000),
        ("norm", 3000, 4000),
        ("attn_q", 4010, 6000),
        ("output", 7200, 8000),
    ]
    assert names(trace, "thread 0", "layer") == [("layer 0", 3000, 6000)]
    assert names(trace, "thread 1", "layer") == [("layer 0", 3010, 7000)]
    assert names(trace, "thread 0", "step", "phase") == [
        ("step 0", 0, 10_000),
        ("schedule", 0, 1000),
        ("forward", 1000, 9000),
        ("sample", 9000, 10_000),
    ]


def test_time_between_steps_is_shown_and_other_threads_are_idle_in_it(tmp_path: Path) -> None:
    trace = shown(tmp_path, 2, step(0, TWO_THREADS), step(12_000, TWO_THREADS))
    assert ("between steps", 10_000, 12_000) in names(trace, "thread 0", "phase")
    assert ("idle", 10_000, 13_600) in names(trace, "thread 1", "barrier")
    assert [s.args for s in trace.of("step")] == [
        {"step": 0, "rows": 0, "outputs": 1},
        {"step": 1, "rows": 0, "outputs": 1},
    ]


def test_stamps_that_leave_the_pass_by_the_error_of_the_clock_are_put_at_its_edge() -> None:
    times = [[(990, 2000)], [(2010, 3000)], [(3010, 4000)], [(4010, 9020)]]
    found = operations(step(0, times), LABELS, None)
    assert (found[0].begun_ns, found[-1].ended_ns) == (1000, 9000)
    assert found[0].thread_ns == ((1000, 2000),)


def test_an_operation_lasts_from_the_first_begin_to_the_last_end() -> None:
    found = operations(step(0, TWO_THREADS), LABELS, None)
    assert [(o.index, o.label, o.layer) for o in found] == [(i, *label) for i, label in enumerate(LABELS)]
    assert [(o.begun_ns, o.ended_ns) for o in found] == [
        (1500, 2900),
        (3000, 4000),
        (4010, 7000),
        (7200, 8800),
    ]
