"""Statistics of tensors against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.report.statistics import StatisticsProbe, statistics_of

RNG = np.random.default_rng(12)


def test_they_are_those_of_the_values() -> None:
    values = RNG.normal(3, 2, (5, 7, 11)).astype(np.float32)
    values[0, 0, :6] = 0
    found = statistics_of(values)
    wide = values.astype(np.longdouble)
    assert found.shape == (5, 7, 11)
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.mean == pytest.approx(float(wide.mean()), rel=1e-12)
    assert found.rms == pytest.approx(float(np.sqrt((wide**2).mean())), rel=1e-12)
    assert found.zeros == 6 / values.size
    assert (found.n_nan, found.n_inf) == (0, 0)


def test_nan_and_infinity_are_counted_and_do_not_hide_the_rest() -> None:
    values = np.array([1, np.nan, -3, np.inf, -np.inf, np.nan], np.float32)
    found = statistics_of(values)
    assert (found.n_nan, found.n_inf) == (2, 2)
    assert (found.min, found.max, found.mean) == (-3, 1, -1)


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, np.nan]])
def test_without_a_finite_value_there_is_no_mean(values: list[float]) -> None:
    found = statistics_of(np.array(values, np.float32))
    assert (found.min, found.max, found.mean, found.rms) == (None,) * 4


def test_large_values_do_not_overflow() -> None:
    found = statistics_of(np.full(1000, 3e38, np.float32))
    assert found.rms == pytest.approx(float(np.float32(3e38)))


def test_scores_of_later_keys_do_not_count() -> None:
    probe = StatisticsProbe()
    probe.begin("decode/0", position=2)
    scores = np.array([[[1, 2, 3, 99]]], np.float32)
    probe.tap("kq", 4, scores)
    probe.tap("Qcur", 4, scores)
    assert probe.found["decode/0"]["kq-4"].max == 3
    assert probe.found["decode/0"]["kq-4"].shape == (1, 1, 4)
    assert probe.found["decode/0"]["Qcur-4"].max == 99
