"""The tool that measures what recording costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.settings import Settings
from llorch.trace.recorder import Recorder
from tools.performance.trace_overhead import GROUP, LONG, Turn, Turns, step_summary, summary


def test_turns_come_in_pairs_and_only_one_of_them_is_recorded(tiny_model: Path) -> None:
    settings = Settings(model=str(tiny_model), threads=1, prefix_cache=False)
    with open_configured(settings) as loaded:
        turns = Turns(Engine(loaded, settings), 4)
        for recorded_first in (False, True):
            recorder = Recorder(loaded.llama)
            off, on = turns.pair(recorder, recorded_first)
            assert min(off.wall, off.cpu, on.wall, on.cpu) > 0
            assert [step.n_rows for step in recorder.finish().steps] == [4, 1, 1, 1]


def test_a_recorder_comes_and_goes_within_a_generation(tiny_model: Path) -> None:
    settings = Settings(model=str(tiny_model), threads=1, prefix_cache=False)
    with open_configured(settings) as loaded:
        recorder = Recorder(loaded.llama)
        off, on = Turns(Engine(loaded, settings), 4).steps(recorder)
    chunks = [chunk for step in recorder.finish().steps for chunk in step.chunks]
    watched = [i for i in range(LONG - 1) if i // GROUP % 2]
    assert [(c.n_before, c.first_position, c.n_chosen) for c in chunks] == [
        (1 + i, 4 + i, 1) for i in watched
    ]
    assert len(on) == sum(i % GROUP != 0 for i in watched)
    assert min(off + on) > 0


def test_single_steps_are_compared_by_their_medians() -> None:
    found = [([100.0, 101.0, 500.0], [104.0, 103.0, 105.0]), ([101.0, 101.0], [104.0])]
    difference = {"difference_us": 3.0, "difference_percent": pytest.approx(2.97)}
    assert step_summary(found) == {"step": {"off_us": 101.0, "on_us": 104.0, **difference}}


def test_the_difference_is_the_median_of_what_neighbours_differ_by() -> None:
    pairs = [(Turn(10, 1), Turn(11, 1)), (Turn(20, 1), Turn(21, 2)), (Turn(10, 1), Turn(15, 1))]
    assert summary(pairs) == {
        "wall": {"off_ms": 10, "on_ms": 15, "difference_percent": pytest.approx(10)},
        "cpu": {"off_ms": 1, "on_ms": 1, "difference_percent": 0},
    }
