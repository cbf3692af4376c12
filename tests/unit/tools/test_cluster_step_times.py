from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.support.cluster import ANSWER_S, PASS_S, POSITION_S, ROW_S, step_times
from tools.performance.cluster.step_times import Load, StepTimes, StepTimesError


@pytest.mark.parametrize(
    ("n_decode", "n_prompt"), [(1, 0), (8, 0), (3, 0), (0, 1), (0, 200), (5, 77), (8, 512), (12, 900)]
)
def test_cells_are_interpolated_and_go_on_beyond_the_table(n_decode: int, n_prompt: int) -> None:
    times = step_times(outside_s=0.003)
    forward_s, outside_s = times.seconds(Load(n_decode, n_prompt, 70, 30), times.alone)
    assert forward_s == pytest.approx(PASS_S + ANSWER_S * n_decode + ROW_S * n_prompt + POSITION_S * 100)
    assert outside_s == pytest.approx(0.003)


def test_other_busy_cores_have_a_table_of_their_own() -> None:
    times = step_times(slowdown=1.5)
    load = Load(4, 0, 1000, 0)
    assert times.seconds(load, times.beside)[0] == pytest.approx(1.5 * times.seconds(load, times.alone)[0])


def test_a_file_gives_the_table_back(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    step_times().save(path)
    assert StepTimes.load(path) == step_times()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_decode": [0]}, "two or more ascending counts from 0"),
        ({"n_prompt": [0, 512, 1]}, "two or more ascending counts from 0"),
        ({"n_prompt": [0, 1]}, "expected tables of 3 x 2"),
        ({"alone": {}}, "expected step times of measure_steps"),
    ],
)
def test_what_is_no_table_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    step_times().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StepTimesError, match=message):
        StepTimes.load(path)


def test_no_file_and_no_json_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name in ("nothing", "text"):
        with pytest.raises(StepTimesError, match="expected step times"):
            StepTimes.load(tmp_path / name)


def test_the_median_of_tables_is_that_of_each_cell() -> None:
    tables = [
        step_times(outside_s=seconds, slowdown=slowdown) for seconds, slowdown in ((1, 3), (9, 1), (2, 2))
    ]
    found = StepTimes.median(tables)
    assert found == step_times(outside_s=2, slowdown=2)
    with pytest.raises(StepTimesError, match="equal axes"):
        StepTimes.median([tables[0], dataclasses.replace(tables[0], n_decode=(0, 1, 9))])
