"""How far two arrays are apart, in the figures that a reviewer asks for. Pure NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.validation.bounds import Bounds
from llorch.validation.records import Figure, Record


class Comparison(Record):
    """Result of one comparison; all sums are taken in float64.

    Attributes:
        n_values: how many pairs were compared.
        max_abs: largest absolute difference; infinite when one of our values is NaN or infinite.
        relative: root mean square of the differences over that of the reference.
        nmse: sum of squared differences over sum of squared reference values.
        cosine: cosine of the angle between the two as vectors.
        worst_index: where `max_abs` is, and `ours` and `theirs` stand; empty when nothing was compared.
        limit: what `max_abs` had to stay within; None when the tolerance bounds the NMSE alone.
    """

    n_values: int
    max_abs: Figure
    mean_abs: Figure
    relative: Figure
    nmse: Figure
    cosine: Figure
    worst_index: tuple[int, ...]
    ours: Figure
    theirs: Figure
    limit: Figure | None
    passed: bool


def compare(
    ours: NDArray[Any], theirs: NDArray[Any], tolerance: Bounds, where: NDArray[np.bool_] | None = None
) -> Comparison:
    """Compare our values with the reference's. Nothing to compare passes.

    A NaN or infinity of ours fails, except where the reference holds the same; it can never hide behind a
    comparison that is false for NaN.

    Args:
        ours: any real type and shape.
        theirs: same shape; finite, as loaded references are, or infinite where masked.
        tolerance: what is allowed.
        where: bool, broadcastable to that shape; False leaves a pair out (e.g. scores of masked positions).

    Raises:
        ValueError: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"our shape {ours.shape} differs from the reference's {theirs.shape}")
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    counted = np.ones(a.shape, np.bool_) if where is None else np.broadcast_to(where, a.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
    difference[np.isnan(difference)] = np.inf
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    n_values = int(np.count_nonzero(counted))
    worst: tuple[int, ...] = ()
    at_worst = (0.0, 0.0, 0.0)
    if n_values:
        flat = int(np.where(counted, difference, -1.0).argmax())
        worst = tuple(int(i) for i in np.unravel_index(flat, a.shape))
        at_worst = (float(difference[worst]), float(a[worst]), float(b[worst]))
    max_abs = at_worst[0]
    kept = counted & np.isfinite(b)
    nmse, cosine = _nmse_and_cosine(a[kept], b[kept], difference[counted])
    limit = tolerance.absolute
    if limit is not None:
        limit += tolerance.relative * float(np.abs(b[kept]).max(initial=0.0))
    return Comparison(
        n_values=n_values,
        max_abs=max_abs,
        mean_abs=float(difference[counted].mean()) if n_values else 0.0,
        relative=math.sqrt(nmse),
        nmse=nmse,
        cosine=cosine,
        worst_index=worst,
        ours=at_worst[1],
        theirs=at_worst[2],
        limit=limit,
        passed=math.isfinite(max_abs)
        and (limit is None or max_abs <= limit)
        and (tolerance.nmse is None or nmse <= tolerance.nmse),
    )


def _nmse_and_cosine(
    a: NDArray[np.float64], b: NDArray[np.float64], difference: NDArray[np.float64]
) -> tuple[float, float]:
    """Normalised mean squared error and cosine of flat arrays; infinite and 0 where they say nothing."""
    error = float(np.dot(difference, difference))
    if not math.isfinite(error) or not np.isfinite(a).all():
        return math.inf, 0.0
    power = float(np.dot(b, b))
    nmse = error / power if power > 0.0 else (0.0 if error == 0.0 else math.inf)
    norms = math.sqrt(float(np.dot(a, a))) * math.sqrt(power)
    if error == 0.0 or norms == 0.0:
        return nmse, 1.0 if error == 0.0 else 0.0
    return nmse, max(-1.0, min(1.0, float(np.dot(a, b)) / norms))


def causal(n_tokens: int, position: int, n_kv: int) -> NDArray[np.bool_]:
    """Which scores count: bool [n_tokens, n_kv], True where the key is not later than the query.

    `position` is that of the first query; the cache holds `n_kv` keys after the pass.
    """
    queries = position + np.arange(n_tokens)[:, None]
    mask: NDArray[np.bool_] = np.arange(n_kv)[None, :] <= queries
    return mask
