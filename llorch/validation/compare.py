"""How far two arrays are apart, in the figures that a reviewer asks for. Pure NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.validation.records import Figure, Record
from llorch.validation.tolerances import Bounds


class Comparison(Record):
    """Result of one comparison; all sums are taken in float64.

    Attributes:
        n_values: how many pairs were compared.
        max_abs: largest absolute difference; infinite when one of our values is NaN or infinite.
        mean_abs: mean absolute difference.
        relative: root mean square of the differences over that of the reference.
        nmse: sum of squared differences over sum of squared reference values.
        cosine: cosine of the angle between the two as vectors.
        worst_index: where `max_abs` is; empty when nothing was compared.
        ours: our value there.
        theirs: the reference's value there.
        limit: what `max_abs` had to stay within; None when the tolerance bounds the NMSE alone.
        passed: the verdict.
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
    """Compare our values with the reference's.

    A NaN or infinity of ours fails, except where the reference holds the same; it can never hide behind a
    comparison that is false for NaN.

    Args:
        ours: any real type and shape.
        theirs: same shape; finite, as loaded references are, or infinite where masked.
        tolerance: what is allowed.
        where: bool, broadcastable to that shape; False leaves a pair out (e.g. scores of masked positions).

    Returns:
        Figures and verdict. Nothing to compare passes.

    Raises:
        ValueError: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"our shape {ours.shape} differs from the reference's {theirs.shape}")
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    counted = np.ones(a.shape, np.bool_) if where is None else np.broadcast_to(where, a.shape)
    n_values = int(np.count_nonzero(counted))
    if n_values == 0:
        none = dict.fromkeys(("max_abs", "mean_abs", "relative", "nmse", "ours", "theirs"), 0.0)
        limit = tolerance.absolute
        return Comparison(n_values=0, cosine=1.0, worst_index=(), limit=limit, passed=True, **none)
    same = (a == b) | (np.isnan(a) & np.isnan(b)) | ~counted
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    difference[np.isnan(difference)] = np.inf
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(difference)), difference.shape))
    if same[worst]:  # no difference anywhere: point at a pair that was compared
        worst = tuple(int(i) for i in np.argwhere(counted)[0])
    max_abs = float(difference[worst])
    kept = counted & np.isfinite(b)
    peak = float(np.abs(b[kept]).max(initial=0.0))
    nmse, cosine = _nmse_and_cosine(a[kept], b[kept], difference[counted])
    limit = None if tolerance.absolute is None else tolerance.absolute + tolerance.relative * peak
    passed = math.isfinite(max_abs) and (limit is None or max_abs <= limit)
    passed = passed and (tolerance.nmse is None or nmse <= tolerance.nmse)
    return Comparison(
        n_values=n_values,
        max_abs=max_abs,
        mean_abs=float(difference[counted].mean()),
        relative=math.sqrt(nmse),
        nmse=nmse,
        cosine=cosine,
        worst_index=worst,
        ours=float(a[worst]),
        theirs=float(b[worst]),
        limit=limit,
        passed=passed,
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

    Args:
        n_tokens: queries of this pass.
        position: position of the first of them.
        n_kv: keys in the cache after the pass.
    """
    queries = position + np.arange(n_tokens)[:, None]
    mask: NDArray[np.bool_] = np.arange(n_kv)[None, :] <= queries
    return mask
