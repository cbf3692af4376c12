"""Files of timelines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llorch.errors import InputError
from llorch.trace.perfetto import Timeline
from tests.support.perfetto.trace_file import Slice, read_trace

BEGUN_NS = 10**18 + 7


def test_times_count_from_the_begin_to_the_nanosecond(tmp_path: Path) -> None:
    timeline = Timeline(BEGUN_NS)
    track = timeline.track("compute", "thread 0", 0)
    times = [(0, 1), (1, 1000), (123_456_789, 123_456_790), (3_600_000_000_001, 7_200_000_000_003)]
    for begin_ns, end_ns in times:
        timeline.slice(track, "norm", BEGUN_NS + begin_ns, BEGUN_NS + end_ns, "operation", {"layer": 3})
    timeline.write(tmp_path / "t.json", {"version": "1"})
    trace = read_trace(tmp_path / "t.json")
    assert trace.about == {"version": "1"}
    expected = [Slice("thread 0", "norm", "operation", *time, {"layer": 3}) for time in times]
    assert trace.slices == {"thread 0": expected}


def test_tracks_of_a_process_are_named_and_sorted_and_made_once(tmp_path: Path) -> None:
    timeline = Timeline(0)
    first, second = timeline.track("a", "x", 1), timeline.track("b", "x", 0)
    assert timeline.track("a", "x", 1) == first != second
    assert first.pid != second.pid
    timeline.counter("b", "rows", 5, 2.5)
    timeline.slice(second, 'quotes " and \n', 1, 2, "step")
    assert timeline.n_events == 2
    timeline.write(tmp_path / "t.json", {})
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    named = {(e["pid"], e["tid"], e["name"]): e["args"] for e in events if e["ph"] == "M"}
    assert named[first.pid, 0, "process_name"] == {"name": "a"}
    assert named[second.pid, second.tid, "thread_name"] == {"name": "x"}
    assert named[first.pid, first.tid, "thread_sort_index"] == {"sort_index": 1}
    (counter,) = (e for e in events if e["ph"] == "C")
    assert counter == {"ph": "C", "pid": second.pid, "name": "rows", "ts": 0.005, "args": {"value": 2.5}}
    assert events[-2]["name"] == 'quotes " and \n'


def test_an_empty_timeline_is_a_file_as_well(tmp_path: Path) -> None:
    Timeline(0).write(tmp_path / "t.json", {})
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"] == []


def test_what_json_has_no_number_for_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    timeline = Timeline(0)
    timeline.slice(timeline.track("a", "x", 0), "norm", 0, 1, "operation", {"value": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        timeline.write(tmp_path / "t.json", {})
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "t.json"
    place.mkdir()
    with pytest.raises(InputError, match="cannot be written there"):
        Timeline(0).write(place, {})
    assert os.listdir(tmp_path) == ["t.json"]
