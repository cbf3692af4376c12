"""Comparing logits with those of `tests.support.naive`: token ids to feed, a measure, tolerances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32_TOLERANCE = 5e-6
"""Of the largest logit: float32 sums through all layers, against float64 (measured: 5e-7)."""
NO_FLIP_TOLERANCE = 1e-6
"""The same for rows in which both sides round every activation alike (measured: 2e-7)."""
FLIP_TOLERANCE = {"F32": F32_TOLERANCE, "F16": 2e-3, "BF16": 1e-2, "Q8_0": 5e-2}
"""The same for rows that have, or see, an activation near a tie that is rounded the other way."""
QUANTIZATION_TOLERANCE = 0.05
"""Against exact activations: what int8 activations cost, half a percent per product."""


def token_ids_of(n: int, n_vocab: int = 301, seed: int = 0) -> list[int]:
    return [1, *np.random.default_rng(seed).integers(3, n_vocab, n - 1).tolist()]


def worst(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())
