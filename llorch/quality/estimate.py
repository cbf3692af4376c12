"""Perplexity and the uncertainty of a mean, by llama-perplexity's formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.errors import NumericalError


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and its standard error."""

    value: float
    stderr: float

    def to_json(self) -> dict[str, float]:
        """As `--json` lists it."""
        return {"mean": self.value, "stderr": self.stderr}


def mean_of(values: NDArray[Any], squares: NDArray[Any] | None = None, *, least: int = 2) -> Mean:
    """The mean of `values` and its standard error, from sums in float64.

    Args:
        values: at least one.
        squares: of `values`, where they are not to be computed in float64.
        least: with fewer values the error is 0, which means that it is unknown.
    """
    n = len(values)
    mean = float(values.sum(dtype=np.float64)) / n
    if squares is None:
        squares = np.square(values, dtype=np.float64)
    variance = float(squares.sum(dtype=np.float64)) / n - mean * mean
    return Mean(mean, math.sqrt(variance / (n - 1)) if variance > 0 and n >= least else 0.0)


def perplexity_of(mean: Mean) -> Mean:
    """The perplexity that belongs to a mean negative log-likelihood.

    Raises:
        NumericalError: it is larger than the largest float64.
    """
    try:
        perplexity = math.exp(mean.value)
    except OverflowError:
        raise NumericalError(
            f"the tokens have a mean log-probability of -{mean.value:g}: the perplexity is no finite number"
        ) from None
    return Mean(perplexity, perplexity * mean.stderr)


def running_perplexities(losses: NDArray[Any], n_counted: int) -> list[float]:
    """The perplexity of the first chunk, the first two, and so on.

    Args:
        losses: (n_chunks * n_counted,), negative log-likelihoods.
        n_counted: of a chunk.
    """
    sums = losses.reshape(-1, n_counted).sum(axis=1, dtype=np.float64).cumsum()
    counts = np.arange(1, len(sums) + 1) * n_counted
    return [perplexity_of(Mean(float(mean), 0.0)).value for mean in sums / counts]
