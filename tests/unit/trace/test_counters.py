"""What the counter tracks show, from recordings that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.trace.counters import PAUSE_NS, WINDOW_NS, add_counters
from llorch.trace.perfetto import Timeline
from llorch.trace.records import EngineState, Recording
from tests.support.perfetto.trace_file import read_trace
from tests.support.recordings import chunk, recording, step


def counters(tmp_path: Path, of: Recording) -> dict[str, list[tuple[int, float]]]:
    timeline = Timeline(of.begun_ns)
    add_counters(timeline, of)
    timeline.write(tmp_path / "t.json", {})
    return read_trace(tmp_path / "t.json").counters


def test_blocks_and_batch_are_those_after_each_step(tmp_path: Path) -> None:
    steps = (
        step(0, chunk("j1", 0, 4), chunk("j2", 5), state=EngineState(2, 3, 10, 4, 1, 32)),
        step(10, chunk("j1", 4), state=EngineState(1, 0, 10, 2, 8, 40)),
    )
    found = counters(tmp_path, recording(*steps))
    assert found["KV blocks: used"] == [(10, 5), (20, 0)]
    assert found["KV blocks: kept"] == [(10, 1), (20, 8)]
    assert found["KV blocks: free"] == [(10, 4), (20, 2)]
    assert found["batch: running"] == [(10, 2), (20, 1)]
    assert found["batch: waiting"] == [(10, 3), (20, 0)]
    assert found["cached tokens"] == [(10, 32), (20, 40)]
    assert found["batch: rows"] == [(0, 5), (10, 1)]


def test_where_nothing_was_computed_there_are_none(tmp_path: Path) -> None:
    assert counters(tmp_path, recording()) == {}


def test_a_batch_is_empty_where_nothing_is_computed(tmp_path: Path) -> None:
    found = counters(tmp_path, recording(step(0, chunk("j1", 4)), step(20 + PAUSE_NS, chunk("j1", 5))))
    assert found["batch: rows"] == [(0, 1), (10, 0), (20 + PAUSE_NS, 1)]


def test_rates_are_those_of_the_last_second_and_fall_to_nothing(tmp_path: Path) -> None:
    half = WINDOW_NS // 2
    steps = [step(i * half, chunk("j1", 4 + i), chunk("j2", 4 + i)) for i in range(4)]
    steps.append(step(4 * half, chunk("j3", 0, 100, n_prompt=100)))
    found = counters(tmp_path, recording(*steps, n_ns=10 * WINDOW_NS))
    times = [at for at, _ in found["tokens/s"]]
    assert times == [*(i * half + 10 for i in range(5)), 4 * half + 10 + WINDOW_NS]
    values = [value for _, value in found["tokens/s"]]
    assert values[1:] == [pytest.approx(8, rel=1e-6), 4, 4, 3, 0]
    assert [value for _, value in found["prompt tokens/s"]][-2:] == [100, 0]
