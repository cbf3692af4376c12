"""The tool that measures what recording costs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from llorch.engine.engine import Engine, open_configured
from llorch.settings import Settings
from llorch.trace.recorder import Recorder
from tools.performance.trace_overhead import (
    GROUP,
    LONG,
    ORDERS,
    Round,
    Turn,
    Turns,
    median_bounds,
    step_summary,
    summary,
)


def test_turns_come_in_pairs_and_only_one_of_them_is_recorded(tiny_model: Path) -> None:
    settings = Settings(model=str(tiny_model), threads=1, prefix_cache=False)
    with open_configured(settings) as loaded:
        turns = Turns(Engine(loaded, settings), 4)
        for recorded_first in (False, True):
            recorder = Recorder(loaded.llama)
            off, on = turns.pair(recorder, recorded_first)
            assert min(off.wall, off.cpu, on.wall, on.cpu) > 0
            assert [step.n_rows for step in recorder.finish().steps] == [4, 1, 1, 1]


def test_a_recorder_comes_and_goes_within_a_generation_in_every_order(tiny_model: Path) -> None:
    settings = Settings(model=str(tiny_model), threads=1, prefix_cache=False)
    watched: dict[int, list[int]] = {}
    with open_configured(settings) as loaded:
        turns = Turns(Engine(loaded, settings), 4)
        for generation in range(2):
            recorder = Recorder(loaded.llama)
            rounds = turns.steps(recorder)
            assert len(rounds) == (LONG - 1) // (3 * GROUP)
            assert min(us for r in rounds for us in (r.off, r.off_again, r.on)) > 0
            chunks = [chunk for step in recorder.finish().steps for chunk in step.chunks]
            assert all((c.first_position, c.n_chosen) == (3 + c.n_before, 1) for c in chunks)
            watched[generation] = [c.n_before - 1 for c in chunks]
    for generation, steps in watched.items():
        orders = itertools.islice(itertools.cycle(ORDERS), generation * 5, generation * 5 + 5)
        groups = [3 * i + order.index(2) for i, order in enumerate(orders)]
        assert steps == [i for i in range(LONG - 1) if i // GROUP in groups]


def test_single_steps_are_compared_by_the_medians_of_what_neighbours_differ_by() -> None:
    rounds = [Round(100 + i, 100 + i, 103 + i % 3) for i in range(3)]
    assert step_summary(rounds) == {
        "step": {
            "rounds": 3,
            "off_us": 101,
            "nothing": {"us": 0, "us_95": [0, 0], "percent": 0},
            "recorder": {"us": 3, "us_95": [3, 3], "percent": pytest.approx(2.97)},
        }
    }


def test_the_bounds_hold_the_true_median_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    for n in (20, 101, 1000):
        found = [median_bounds(rng.normal(7, 1, n).tolist()) for _ in range(400)]
        assert 370 <= sum(low <= 7 <= high for low, high in found) <= 395


def test_the_difference_is_the_median_of_what_neighbours_differ_by() -> None:
    pairs = [(Turn(10, 1), Turn(11, 1)), (Turn(20, 1), Turn(21, 2)), (Turn(10, 1), Turn(15, 1))]
    assert summary(pairs) == {
        "wall": {"off_ms": 10, "on_ms": 15, "difference_percent": pytest.approx(10)},
        "cpu": {"off_ms": 1, "on_ms": 1, "difference_percent": 0},
    }
