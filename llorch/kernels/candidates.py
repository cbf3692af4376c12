"""From a row of logits to a token, without a sort of the vocabulary: the most likely candidates, cut, drawn from.

Three units with the exponentials between them, which NumPy takes: `take_candidates`, ``exp``, `cut_candidates`,
``exp``, `draw_candidate`. The arithmetic is that of the steps in `engine.sampling`, number by number: float32, one
rounding after each operation, sums in the order in which NumPy adds.
"""

from __future__ import annotations

import numpy as np

from llorch.kernels.emit.scalars import as_float32, as_float64, as_int32, float32_of_bits
from llorch.kernels.jit import inlined, kernel, unit

GROUP = 64
"""Logits of which the largest is looked for first; partial sums stand at every so many candidates."""

UNUSABLE = -1
"""Instead of a number of candidates."""

FEW_SORTED, MORE_SORTED = 64, 512
"""Probabilities that are sorted for top-p: so many, then so many; all of them where these do not reach `p`."""

RADIX = 2048
"""Least int32 of `maxima`, which counts digits where all probabilities are sorted."""

_DIGIT_BITS = 11
_PAIRWISE_LEAF = 128
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)
_MINUS_INFINITY = np.int32(-0x7F800001)
_LOWEST = np.int32(-0x80000000)


@inlined
def _key(bits):
    """An int32 in the order of the float32 with these bits; -0 equals +0, NaN is beyond the infinities."""
    key = np.int32(bits ^ (np.int32(bits >> np.int32(31)) & _MAGNITUDE))
    return np.int32(0) if key == np.int32(-1) else key


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
    peak = _group_maxima(as_int32(logits), n, as_int32(maxima))
    if peak <= _MINUS_INFINITY:
        return UNUSABLE
    least = _LOWEST
    if k < n_groups:
        least = _kth_largest(as_int32(maxima), n_groups, k)
    n_found = _collect(as_int32(logits), n, as_int32(maxima), least, as_int32(ids), as_int32(values))
    scratch = as_int32(keys), as_int32(differences), as_int32(maxima)
    n_kept = _keep_largest(as_int32(ids), as_int32(values), scratch, n_found, k)
    _subtract_largest(as_float32(values), as_float32(differences), n_kept)
    return n_kept


@kernel
def _group_maxima(bits, n, maxima):
    """Keys of the largest logit of every group; returns the largest of all, or _LOWEST if one is NaN or +inf."""
    largest, magnitude = _LOWEST, np.int32(0)
    for group in range((n + GROUP - 1) // GROUP):
        most, odd = _LOWEST, np.int32(0)
        for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
            most = max(most, _key(bits[i]))
            odd = max(odd, np.int32(bits[i] & _MAGNITUDE))
        maxima[group] = most
        largest, magnitude = max(largest, most), max(magnitude, odd)
    return _LOWEST if magnitude > _INFINITY or largest >= _INFINITY else largest


@kernel
def _kth_largest(keys, n, k):
    """The k-th largest of `n` int32: the highest number that `k` of them reach, halved in on."""
    low, high = np.int64(-0x80000000), np.int64(0x7FFFFFFF)
    while low < high:
        middle = (low + high + 1) >> 1
        limit, n_reach = np.int32(middle), np.int32(0)
        for i in range(n):
            n_reach += np.int32(1) if keys[i] >= limit else np.int32(0)
        if n_reach >= k:
            low = middle
        else:
            high = middle - 1
    return np.int32(low)


@kernel
def _kth_of_many(keys, n, k, spare, maxima):
    """As `_kth_largest`, which looks at all of them 32 times; this at groups whose largest is among the k largest."""
    n_groups = (n + GROUP - 1) // GROUP
    if k >= n_groups:
        return _kth_largest(keys, n, k)
    for group in range(n_groups):
        most = _LOWEST
        for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
            most = max(most, keys[i])
        maxima[group] = most
    least, n_found = _kth_largest(maxima, n_groups, k), 0
    for group in range(n_groups):
        if maxima[group] >= least:
            for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
                if keys[i] >= least:
                    spare[n_found] = keys[i]
                    n_found += 1
    return _kth_largest(spare, n_found, k)


@kernel
def _collect(bits, n, maxima, least, ids, values):
    """Ids and bits of the logits that reach `least`; returns how many do."""
    if least == _LOWEST:
        for i in range(n):
            ids[i] = i
        for i in range(n):
            values[i] = bits[i]
        return n
    n_found = 0
    for group in range((n + GROUP - 1) // GROUP):
        if maxima[group] >= least:
            for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
                if _key(bits[i]) >= least:
                    ids[n_found], values[n_found] = i, bits[i]
                    n_found += 1
    return n_found


@kernel
def _keep_largest(ids, values, scratch, n, k):
    """Keep the `k` largest of `n` candidates, of equal ones those with smaller ids; returns how many are left."""
    if n <= k:
        return n
    keys, spare, maxima = scratch
    for i in range(n):
        keys[i] = _key(values[i])
    least = _kth_of_many(keys, n, k, spare, maxima)
    n_equal = k
    for i in range(n):
        n_equal -= 1 if keys[i] > least else 0
    n_kept = 0
    for i in range(n):
        is_equal = keys[i] == least
        if keys[i] > least or (is_equal and n_equal > 0):
            n_equal -= 1 if is_equal else 0
            ids[n_kept], values[n_kept] = ids[i], values[i]
            n_kept += 1
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
        n = _keep_largest(as_int32(ids), as_int32(values), scratch, n, n_wanted)
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
        first, n = np.int64(frames[2 * depth - 2]), np.int64(frames[2 * depth - 1])
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
            _sort_all_falling(bits, keys, spare, maxima, n)
        else:
            _pick_largest(bits, weights, spare, maxima, falling, n, n_sorted)
            _sort_falling(falling, n_sorted)
        total = np.float32(0)
        for i in range(n_sorted):
            total += falling[i]
            if total >= p:
                return i + 1
        if n_sorted == n:
            return n
        n_sorted = min(MORE_SORTED, n) if n_sorted == FEW_SORTED else n


@kernel
def _pick_largest(bits, weights, spare, maxima, out, n, k):
    """Write the `k` largest of `n` weights, in any order; `out` may be `spare`."""
    if k == n:
        for i in range(n):
            out[i] = weights[i]
        return
    least = _kth_of_many(
        bits, n, k, spare, maxima
    )  # bits of numbers that are not negative are in their order
    n_found = 0
    for i in range(n):
        if bits[i] > least:
            out[n_found] = weights[i]
            n_found += 1
    for i in range(n):
        if bits[i] == least and n_found < k:
            out[n_found] = weights[i]
            n_found += 1


@kernel
def _sort_falling(x, n):
    """Sort a few hundred float32, the largest first (Shell's method)."""
    gap = 1
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            value, at = x[i], i
            while at >= gap and x[at - gap] < value:
                x[at] = x[at - gap]
                at -= gap
            x[at] = value
        gap //= 3


@kernel
def _sort_all_falling(bits, spare, out, counts, n):
    """Write int32 that are not negative, the largest first, into `out`: three stable passes, one for each digit.

    `numpy.sort` took 980 us for 49,152 probabilities.
    """
    _sort_digit(bits, out, counts, n, 0)
    _sort_digit(out, spare, counts, n, _DIGIT_BITS)
    _sort_digit(spare, out, counts, n, 2 * _DIGIT_BITS)


@kernel
def _sort_digit(x, out, counts, n, shift):
    for digit in range(RADIX):
        counts[digit] = 0
    for i in range(n):
        counts[(x[i] >> shift) & (RADIX - 1)] += 1
    begin = 0
    for digit in range(RADIX - 1, -1, -1):
        n_equal = counts[digit]
        counts[digit] = begin
        begin += n_equal
    for i in range(n):
        digit = (x[i] >> shift) & (RADIX - 1)
        out[counts[digit]] = x[i]
        counts[digit] += 1


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
