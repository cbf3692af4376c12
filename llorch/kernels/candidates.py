"""From a row of logits to a token, without a sort of the vocabulary: the most likely candidates, cut, drawn from.

Three units with the exponentials between them, which NumPy takes: `take_candidates`, ``exp``, `cut_candidates`,
``exp``, `draw_candidate`. The arithmetic is that of the steps in `engine.narrowing`, number by number: float32, one
rounding after each operation, sums in the order in which NumPy adds.
"""

from __future__ import annotations

import numpy as np

from llorch.kernels.emit.scalars import as_float32, as_float64, as_int32, float32_of_bits
from llorch.kernels.jit import kernel, unit
from llorch.kernels.selection import (
    GROUP,
    LOWEST,
    collect,
    group_maxima,
    keep_largest,
    kth_largest,
    pick_largest,
    sort_all_falling,
    sort_falling,
)

FEW_SORTED, MORE_SORTED = 64, 512
"""Probabilities that are sorted for top-p: so many, then so many; all of them where these do not reach `p`."""

UNUSABLE = -1
"""Instead of a number of candidates."""

_PAIRWISE_LEAF = 128
_MINUS_INFINITY = np.int32(-0x7F800001)
"""The key of -inf."""


@unit("taking likely tokens", 8, is_short=True)
def take_candidates(logits, n, k, ids, values, differences, keys, maxima):
    """Find the `k` largest of `n` logits; among equal ones the smaller ids come first.

    A sweep finds the largest of every `GROUP`; the k-th of those is at most the k-th logit, so only groups that
    reach it are looked at again.

    Args (int64; addresses unless said otherwise):
        logits: float32 (n,).
        n, k: 1 <= k <= n.
        ids, values: int32 and float32 (n,), get the ids, ascending, and their logits.
        differences: float32 (n,), gets these logits less the largest.
        keys: int32 (n,), scratch.
        maxima: int32 (max(n, RADIX),), scratch.

    Returns:
        `k`; or `UNUSABLE` if a logit is NaN or +inf, or all are -inf.
    """
    n_groups = (n + GROUP - 1) // GROUP
    peak = group_maxima(as_int32(logits), n, as_int32(maxima))
    if peak <= _MINUS_INFINITY:
        return UNUSABLE
    least = LOWEST
    if k < n_groups:
        least = kth_largest(as_int32(maxima), n_groups, k)
    n_found = collect(as_int32(logits), n, as_int32(maxima), least, as_int32(ids), as_int32(values))
    scratch = as_int32(keys), as_int32(differences), as_int32(maxima)
    n_kept = keep_largest(as_int32(ids), as_int32(values), scratch, n_found, k)
    _subtract_largest(as_float32(values), as_float32(differences), n_kept)
    return n_kept


@kernel
def _subtract_largest(x, out, n):
    """Write ``out = x - max(x)``."""
    peak = x[0]
    for i in range(n):
        peak = max(peak, x[i])
    for i in range(n):
        out[i] = x[i] - peak


@unit("cutting unlikely tokens", 12, is_short=True)
def cut_candidates(
    n, ids, values, weights, differences, keys, maxima, has_p, p, has_floor, floor, temperature
):
    """Top-p, min-p and temperature.

    Args (int64; addresses unless said otherwise):
        n: candidates, at least 1.
        ids, values: int32 and float32 (n,), ids, ascending, and logits; candidates that go are taken out.
        weights: float32 (n,), exponentials of the logits less the largest, if `has_p`; scratch then.
        differences: float32 (n,), gets the logits divided by the temperature, less the largest of these.
        keys, maxima: as in `take_candidates`.
        has_p, p: whether the likeliest must reach a probability, and bits of that float32.
        has_floor, floor: whether there is a lowest logit, and bits of the float32 to add to the largest for it.
        temperature: bits of a float32.

    Returns:
        How many are left.
    """
    x, out = as_float32(values), as_float32(differences)
    if has_p:
        scratch = as_int32(keys), as_int32(differences), as_int32(maxima)
        _normalise(as_float32(weights), n, as_int32(keys), out)
        n_wanted = _count_to_reach(
            as_int32(weights), as_float32(weights), scratch, out, n, float32_of_bits(p)
        )
        n = keep_largest(as_int32(ids), as_int32(values), scratch, n, n_wanted)
    peak = x[0]
    for i in range(n):
        peak = max(peak, x[i])
    if has_floor:
        least, n_kept, kept = peak + float32_of_bits(floor), 0, as_int32(ids)
        for i in range(n):
            if x[i] >= least:
                kept[n_kept], x[n_kept] = kept[i], x[i]
                n_kept += 1
        n = n_kept
    divisor = float32_of_bits(temperature)
    highest = peak / divisor
    if abs(highest) < np.float32(np.inf):
        for i in range(n):
            out[i] = x[i] / divisor - highest
    else:  # differences to the largest are divided: the same probabilities
        for i in range(n):
            out[i] = (x[i] - peak) / divisor
    return n


@kernel
def _normalise(weights, n, frames, lefts):
    """Divide `weights` by their sum. Scratch: int32 (n,) and float32 (n,)."""
    total = _pairwise_sum(weights, n, frames, lefts)
    for i in range(n):
        weights[i] = weights[i] / total


@kernel
def _pairwise_sum(x, n, frames, lefts):
    """The sum of `n` float32 in the order in which NumPy adds them (`pairwise_sum`): halves, and halves of these.

    `frames` and `lefts` are a stack of right halves: first number and length, or -1 while it is being summed, and the
    sum of the left half then. (A function of Numba's that calls itself cannot be linked as a unit.)
    """
    depth, first = 0, 0
    while True:
        while n > _PAIRWISE_LEAF:
            half = n // 2
            half -= half % 8
            frames[2 * depth], frames[2 * depth + 1] = first + half, n - half
            depth += 1
            n = half
        total = _leaf_sum(x, first, n)
        while depth > 0 and frames[2 * depth - 1] < 0:
            depth -= 1
            total = lefts[depth] + total
        if depth == 0:
            return total
        first, n = frames[2 * depth - 2], frames[2 * depth - 1]
        lefts[depth - 1], frames[2 * depth - 1] = total, -1


@kernel
def _leaf_sum(x, first, n):
    if n < 8:
        few = np.float32(0)
        for i in range(first, first + n):
            few += x[i]
        return few
    a, b, c, d = x[first], x[first + 1], x[first + 2], x[first + 3]
    e, f, g, h = x[first + 4], x[first + 5], x[first + 6], x[first + 7]
    end = first + n - n % 8
    for i in range(first + 8, end, 8):
        a, b, c, d = a + x[i], b + x[i + 1], c + x[i + 2], d + x[i + 3]
        e, f, g, h = e + x[i + 4], f + x[i + 5], g + x[i + 6], h + x[i + 7]
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(end, first + n):
        total += x[i]
    return total


@kernel
def _count_to_reach(bits, weights, scratch, falling, n, p):
    """How many of the largest weights sum to `p`, added from the largest on; `n` if all do not.

    `falling` is the second of `scratch` as float32.
    """
    keys, spare, maxima = scratch
    n_sorted = min(FEW_SORTED, n)
    while True:
        if n_sorted > MORE_SORTED:
            sort_all_falling(bits, keys, spare, maxima, n)
        else:
            pick_largest(bits, weights, spare, maxima, falling, n, n_sorted)
            sort_falling(falling, n_sorted)
        total = np.float32(0)
        for i in range(n_sorted):
            total += falling[i]
            if total >= p:
                return i + 1
        if n_sorted == n:
            return n
        n_sorted = min(MORE_SORTED, n) if n_sorted == FEW_SORTED else n


@unit("drawing a token", 5, is_short=True)
def draw_candidate(n, ids, weights, sums, point):
    """The token in whose share of the total weight a point falls; never one of weight 0.

    Args (int64; addresses unless said otherwise):
        n: candidates.
        ids: int32 (n,).
        weights: float32 (n,), the largest of them 1.
        sums: float64 (n / GROUP + 1,), scratch.
        point: times 2**-53, the share of the total that lies before it.
    """
    w, partial = as_float32(weights), as_float64(sums)
    total = np.float64(0)
    for i in range(n):
        if i % GROUP == 0:
            partial[i // GROUP] = total
        total += np.float64(w[i])
    target = np.float64(point) * 2.0**-53 * total
    group = (n - 1) // GROUP
    while group > 0 and (partial[group] > target or partial[group] >= total):
        group -= 1
    before = partial[group]
    for i in range(group * GROUP, n):
        before += np.float64(w[i])
        if before > target or before >= total:  # rounding may lift the target to the very end
            return as_int32(ids)[i]
    return as_int32(ids)[n - 1]


CANDIDATE_UNITS = (take_candidates, cut_candidates, draw_candidate)
"""What sampling needs."""
