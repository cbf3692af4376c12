"""`Pooler`: one vector of the last layer's rows, by hand and however they come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.embedding.pooling import LARGEST, Pooler, Pooling
from llorch.errors import NumericalError

ROWS = np.random.default_rng(3).standard_normal((37, 24)).astype(np.float32)


def model(n_embd: int, eps: float = 1e-5, weight: NDArray[np.float32] | None = None) -> Any:
    """What a pooler asks of a model."""
    weight = np.ones(n_embd, np.float32) if weight is None else weight
    return SimpleNamespace(
        config=SimpleNamespace(n_embd=n_embd, norm_eps=eps), weights=SimpleNamespace(output_norm=weight)
    )


def vector_of(rows: NDArray[np.float32], pooling: Pooling, cuts: list[int], norm: int = 2) -> bytes:
    pooler = Pooler(model(rows.shape[1]), pooling)
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        pooler.read(begin, rows[begin:end])
    assert pooler.n_tokens == len(rows)
    return pooler.vector(norm).tobytes()


def test_two_rows_by_hand() -> None:
    weight = np.array([1, 2], np.float32)
    rows = np.array([[3, 4], [0, 2]], np.float32)
    mean, last = Pooler(model(2, 0.0, weight), "mean"), Pooler(model(2, 0.0, weight), "last")
    for pooler in (mean, last):
        pooler.read(0, rows)
    # RMS 5 / sqrt(2) and sqrt(2): the normed rows are (0.6, 0.8) * sqrt(2) and (0, 1) * sqrt(2).
    expected = np.array([0.3 * 1, 0.9 * 2])
    np.testing.assert_allclose(mean.vector(), expected / np.hypot(*expected), rtol=1e-7)
    np.testing.assert_allclose(last.vector(), [0, 1], rtol=1e-7)
    np.testing.assert_allclose(mean.vector(-1), expected * np.sqrt(2), rtol=1e-7)
    np.testing.assert_allclose(mean.vector(0), expected / 1.8 * LARGEST, rtol=1e-7)
    np.testing.assert_allclose(mean.vector(1), expected / 2.1, rtol=1e-7)
    np.testing.assert_allclose(mean.vector(3), expected / (0.3**3 + 1.8**3) ** (1 / 3), rtol=1e-7)
    np.testing.assert_allclose(mean.vector(1000), expected / 1.8, rtol=1e-6)
    assert mean.vector().dtype == np.float32


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("cuts", [[1], [36], [5, 6, 7, 30], list(range(1, 37))])
def test_the_bits_do_not_depend_on_how_the_rows_come(pooling: Pooling, cuts: list[int]) -> None:
    assert vector_of(ROWS, pooling, cuts) == vector_of(ROWS, pooling, [])


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_rows_that_come_again_count_once(pooling: Pooling) -> None:
    pooler = Pooler(model(24), pooling)
    for begin, end in ((0, 10), (0, 4), (4, 12), (12, 12), (0, 32), (32, 37)):
        pooler.read(begin, ROWS[begin:end])
    assert pooler.n_tokens == 37
    assert pooler.vector().tobytes() == vector_of(ROWS, pooling, [])


def test_the_rows_are_not_kept() -> None:
    rows = ROWS.copy()
    pooler = Pooler(model(24), "last")
    pooler.read(0, rows)
    before = pooler.vector()
    rows[:] = 0
    np.testing.assert_array_equal(pooler.vector(), before)


@pytest.mark.parametrize("norm", [-1, 0, 1, 2, 7])
def test_a_vector_of_zeros_stays_one(norm: int) -> None:
    pooler = Pooler(model(3, weight=np.zeros(3, np.float32)), "mean")
    pooler.read(0, np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(pooler.vector(norm), np.zeros(3, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_error(value: float) -> None:
    rows = ROWS[:5].copy()
    rows[3, 1] = value
    with pytest.raises(NumericalError, match="not finite"):
        Pooler(model(24), "mean").read(0, rows)


def test_the_largest_values_give_a_vector() -> None:
    pooler = Pooler(model(2), "mean")
    pooler.read(0, np.full((2, 2), np.finfo(np.float32).max, np.float32))
    np.testing.assert_allclose(pooler.vector(), np.sqrt([0.5, 0.5]), rtol=1e-6)
