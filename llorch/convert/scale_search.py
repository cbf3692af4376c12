"""The search for the scale (and minimum) of a block that gives the smallest weighted error.

Blocks are columns, so that one NumPy operation works on all of them: `x` is float32 (block_size, n_blocks). Every sum
over a block runs in the order of its values and every operation is rounded to float32, as in ggml: the same integers
come out. Infinities and NaN arise on the way where there is nothing to divide; callers switch NumPy's warnings off.

Source: ggml's `make_qkx2_quants`, `make_qx_quants` and `make_q3_quants` without importance weights, bit-exact for
blocks that hold a magnitude above 1e-30.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.floats import Floats

SMALLEST = np.float32(1e-15)
"""A block without a larger magnitude is stored as zeros."""

TINY_RANGE = np.float32(1e-36)
"""A smaller range of values has no inverse in float32."""


def search_with_minimum(
    x: Floats, weights: Floats, top: int, first: float, n_steps: int
) -> tuple[Floats, Floats, Floats]:
    """Scale, minimum and integers such that ``scale * q - minimum`` is close to `x`.

    Args:
        x: float32 (block_size, n_blocks).
        weights: of the squared errors, of the same shape.
        top: largest integer; the smallest is 0.
        first: number by which `top` is exceeded first when the range of values is divided; each step adds 0.1.
        n_steps: steps after the first.

    Returns:
        scale: float32 (n_blocks,).
        minimum: float32 (n_blocks,), not negative; it is subtracted.
        q: float32 (block_size, n_blocks), whole numbers.
    """
    minimum: Floats = np.minimum(x.min(axis=0), np.float32(0))
    largest: Floats = x.max(axis=0)
    is_flat = largest - minimum < TINY_RANGE
    largest[is_flat] = minimum[is_flat] + 1
    flat_minimum, sum_w, sum_x = minimum[is_flat], _sum(weights), _sum(weights * x)
    best: Floats = np.float32(top) / (largest - minimum)
    scale: Floats = np.float32(1) / best
    best_minimum = minimum.copy()
    error = _error(x, weights, scale, minimum, _whole((x - minimum) * best, 0, top))
    for step in range(n_steps + 1):
        # The minimum that the best step has found so far is where the next one begins.
        exceeded = np.float32(first) + np.float32(0.1) * np.float32(step) + np.float32(top)
        inverse = exceeded / (largest - minimum)
        q = _whole((x - minimum) * inverse, 0, top)
        wq = weights * q
        sum_q, sum_qx = _sum(wq), _sum(wq * x)
        sum_qq = _sum(np.multiply(wq, q, out=wq))
        determinant = sum_w * sum_qq - sum_q * sum_q
        new_scale = np.divide(sum_w * sum_qx - sum_x * sum_q, determinant)
        new_minimum = np.divide(sum_qq * sum_x - sum_q * sum_qx, determinant)
        is_above = new_minimum > 0
        new_minimum[is_above] = 0
        np.divide(sum_qx, sum_qq, out=new_scale, where=is_above)
        new_error = _error(x, weights, new_scale, new_minimum, q)
        is_better = (determinant > 0) & (new_error < error)
        _keep(is_better, (best_minimum, minimum), (minimum, new_minimum), (scale, new_scale))
        _keep(is_better, (best, inverse), (error, new_error))
    scale[is_flat], minimum[is_flat], best[is_flat] = 0, flat_minimum, 0
    return scale, -minimum, _whole((x - best_minimum) * best, 0, top)


def search_symmetric(x: Floats, half: int) -> tuple[Floats, Floats]:
    """Scale and integers from ``-half`` to ``half - 1`` such that ``scale * q`` is close to `x`.

    The weight of an error is the square of the value.

    Returns:
        scale: float32 (n_blocks,), of either sign.
        q: float32 (block_size, n_blocks), plus `half`; zeros where every value is zero.
    """
    largest, is_zero = _largest(x)
    weights = x * x
    weighted = weights * x
    best, scale, score = np.zeros_like(largest), np.zeros_like(largest), np.full_like(largest, -1)
    for step in (0, *range(-9, 0), *range(1, 10)):
        inverse = -(np.float32(half) + np.float32(0.1) * np.float32(step)) / largest
        q = _whole(x * inverse, -half, half - 1)
        sum_qx = _sum(weighted * q)
        sum_qq = _sum(np.multiply(weights * q, q, out=q))
        new_scale = sum_qx / sum_qq
        is_better = (sum_qq > 0) & (sum_qx * sum_qx > score * sum_qq)
        _keep(is_better, (scale, new_scale), (score, new_scale * sum_qx), (best, inverse))
    q = _whole(x * best, -half, half - 1) + np.float32(half)
    scale[is_zero], q[:, is_zero] = 0, 0
    return scale, q


def search_one_by_one(x: Floats, half: int) -> tuple[Floats, Floats]:
    """As `search_symmetric`, by changing one integer after the other while that makes the error smaller."""
    largest, is_zero = _largest(x)
    weights = x * x
    weighted = weights * x
    q = _whole(x * (np.float32(-half) / largest), -half, half - 1)
    sum_qx, sum_qq = _sum(weighted * q), _sum(weights * q * q)
    for _ in range(5):
        n_changed = 0
        for i in range(len(x)):
            rest_qx = sum_qx - weighted[i] * q[i]
            rest_qq = sum_qq - weights[i] * q[i] * q[i]
            new = _whole(x[i] * rest_qq / rest_qx, -half, half - 1)
            new_qx = rest_qx + weighted[i] * new
            new_qq = rest_qq + weights[i] * new * new
            is_closer = new_qx * new_qx * sum_qq > sum_qx * sum_qx * new_qq
            is_better = (rest_qx > 0) & (new != q[i]) & (new_qq > 0) & is_closer
            _keep(is_better, (q[i], new), (sum_qx, new_qx), (sum_qq, new_qq))
            n_changed += int(is_better.sum())
        if not n_changed:
            break
    scale = np.where(sum_qq > 0, sum_qx / sum_qq, np.float32(0))
    q += np.float32(half)
    scale[is_zero], q[:, is_zero] = 0, 0
    return scale, q


def _keep(is_better: NDArray[np.bool_], *pairs: tuple[Floats, Floats]) -> None:
    """Of each pair, replace values of the first by those of the second where these are better."""
    for kept, new in pairs:
        np.copyto(kept, new, where=is_better)


def _sum(values: Floats) -> Floats:
    """Sums over the first axis, one value after the other: with one column NumPy would add pairs."""
    total: Floats = np.add.reduce(values, axis=0)
    return total


def _whole(values: Floats, low: int, high: int) -> Floats:
    """The nearest whole numbers, halves to even, limited; in place."""
    np.rint(values, out=values)
    return np.clip(values, np.float32(low), np.float32(high), out=values)


def _error(x: Floats, weights: Floats, scale: Floats, minimum: Floats, q: Floats) -> Floats:
    """Weighted squared errors of ``scale * q + minimum``, float32 (n_blocks,)."""
    difference = q * scale
    difference += minimum
    difference -= x
    difference *= difference
    difference *= weights
    return _sum(difference)


def _largest(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The value of largest magnitude of each block, the first of several, and which blocks count as zero."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=0)[None], axis=0)[0]
    is_zero = np.abs(largest) < SMALLEST
    largest[is_zero] = 1
    return largest, is_zero
