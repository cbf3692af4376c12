"""Steps are cut so that nobody waits long, and never below what a pass over the weights is worth."""

from __future__ import annotations

from llorch.engine.pace import SMALLEST, Pace


def test_the_first_step_is_cautious() -> None:
    assert Pace(512).n_rows == SMALLEST


def test_a_fast_model_gets_whole_batches() -> None:
    pace = Pace(512)
    pace.record(64, 0.01)
    assert pace.n_rows == 512


def test_a_slow_model_gets_steps_of_the_target_time() -> None:
    pace = Pace(512, target_s=0.5)
    pace.record(64, 0.25)
    assert pace.n_rows == 128


def test_a_very_slow_model_is_not_cut_below_the_smallest_step() -> None:
    pace = Pace(512)
    pace.record(64, 60.0)
    assert pace.n_rows == SMALLEST


def test_small_steps_teach_nothing() -> None:
    pace = Pace(512)
    pace.record(1, 10.0)
    pace.record(SMALLEST - 1, 10.0)
    assert pace.n_rows == SMALLEST
    pace.record(64, 0.01)
    pace.record(1, 10.0)
    assert pace.n_rows == 512


def test_a_small_batch_is_the_limit_itself() -> None:
    pace = Pace(16)
    assert pace.n_rows == 16
    pace.record(16, 8.0)
    assert pace.n_rows == 16


def test_a_disturbed_step_is_forgotten_again() -> None:
    pace = Pace(512, target_s=0.5)
    for duration_s in (0.1, 3.0, 0.1, 0.1, 0.1, 0.1):
        pace.record(256, duration_s)
    assert pace.n_rows == 512
