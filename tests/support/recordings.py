"""Recordings that are made up: steps of 10 ns of which each token takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llorch.trace.lanes import add_lanes
from llorch.trace.perfetto import Timeline
from llorch.trace.records import (
    ChunkRecord,
    EngineState,
    FailedPass,
    Recording,
    RequestRecord,
    StepRecord,
)
from tests.support.perfetto.trace_file import Slice, TraceFile, overlaps, read_trace

BEGUN_NS = 1_000_000
NO_STAMPS = np.zeros((0, 1, 2), np.int64)


def chunk(job_id: str, first: int, n: int = 1, n_prompt: int = 4, **more: Any) -> ChunkRecord:
    """Rows of a sequence whose turn is the number in its name; it was submitted and admitted with the recording."""
    values: dict[str, Any] = {
        "turn": int(job_id[1:]),
        "n_chosen": int(first + n >= n_prompt),
        "n_before": max(first - n_prompt + 1, 0),
        "submitted_ns": BEGUN_NS,
        "admitted_ns": BEGUN_NS,
        **more,
    }
    return ChunkRecord(
        job_id, n_tokens=n, first_position=first, is_prompt=first < n_prompt, n_prompt=n_prompt, **values
    )


def step(at_ns: int, *chunks: ChunkRecord, state: EngineState | None = None) -> StepRecord:
    """A step from `at_ns` on, counted from the begin; its pass takes the middle."""
    begun_ns = BEGUN_NS + at_ns
    state = state or EngineState(len(chunks), 0, 8, 6, 1, 0)
    forward_ns = (begun_ns + 1, begun_ns + 9)
    return StepRecord(begun_ns, forward_ns, begun_ns + 10, chunks, len(chunks), NO_STAMPS, state)


def recording(*steps: StepRecord, n_ns: int = 100, failed: tuple[FailedPass, ...] = ()) -> Recording:
    """A recording of `n_ns` in all."""
    return Recording(BEGUN_NS, BEGUN_NS + n_ns, steps, 0, failed)


def request(
    job_id: str, from_ns: int, to_ns: int | None, outcome: str = "stop", **more: int
) -> RequestRecord:
    """A request, from when to when, counted from the begin."""
    ended_ns = None if to_ns is None else BEGUN_NS + to_ns
    values = {"n_prompt": 4, "n_generated": 0, **more}
    admitted = bool(values.pop("was_admitted", 0))
    return RequestRecord(job_id, BEGUN_NS + from_ns, ended_ns, outcome, was_admitted=admitted, **values)


def lanes(tmp_path: Path, of: Recording, *requests: RequestRecord) -> TraceFile:
    """The lanes as a file shows them; their slices lie apart or inside each other."""
    timeline = Timeline(of.begun_ns)
    add_lanes(timeline, of, requests)
    timeline.write(tmp_path / "lanes.json", {})
    trace = read_trace(tmp_path / "lanes.json")
    assert not any(overlaps(slices) for slices in trace.slices.values())
    return trace


def spans(slices: list[Slice]) -> list[tuple[str, int, int]]:
    """Name, begin and end of each."""
    return [(s.name, s.begin_ns, s.end_ns) for s in slices]
