"""The largest of many numbers without a sort of all, as int32 in the order of the float32 that they stand for."""

from __future__ import annotations

import numpy as np

from llorch.kernels.jit import inlined, kernel

GROUP = 64
"""Numbers of which the largest is looked for first."""

RADIX = 2048
"""Digits of a sort of all: so many counters it needs."""

LOWEST = np.int32(-0x80000000)
"""Below every number."""

_DIGIT_BITS = 11
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)


@inlined
def key(bits):
    """An int32 in the order of the float32 with these bits; -0 equals +0, NaN is beyond the infinities."""
    ordered = np.int32(bits ^ (np.int32(bits >> np.int32(31)) & _MAGNITUDE))
    return np.int32(0) if ordered == np.int32(-1) else ordered


@kernel
def group_maxima(bits, n, maxima):
    """Keys of the largest logit of every group; returns the largest of all, or LOWEST if one is NaN or +inf."""
    largest, magnitude = LOWEST, np.int32(0)
    for group in range((n + GROUP - 1) // GROUP):
        most, odd = LOWEST, np.int32(0)
        for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
            most = max(most, key(bits[i]))
            odd = max(odd, np.int32(bits[i] & _MAGNITUDE))
        maxima[group] = most
        largest, magnitude = max(largest, most), max(magnitude, odd)
    return LOWEST if magnitude > _INFINITY or largest >= _INFINITY else largest


@kernel
def kth_largest(keys, n, k):
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
def kth_of_many(keys, n, k, spare, maxima):
    """As `kth_largest`, which looks at all of them 32 times; this at groups whose largest is among the k largest."""
    n_groups = (n + GROUP - 1) // GROUP
    if k >= n_groups:
        return kth_largest(keys, n, k)
    for group in range(n_groups):
        most = LOWEST
        for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
            most = max(most, keys[i])
        maxima[group] = most
    least, n_found = kth_largest(maxima, n_groups, k), 0
    for group in range(n_groups):
        if maxima[group] >= least:
            for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
                if keys[i] >= least:
                    spare[n_found] = keys[i]
                    n_found += 1
    return kth_largest(spare, n_found, k)


@kernel
def collect(bits, n, maxima, least, ids, values):
    """Ids and bits of the logits that reach `least`; returns how many do."""
    if least == LOWEST:
        for i in range(n):
            ids[i] = i
        for i in range(n):
            values[i] = bits[i]
        return n
    n_found = 0
    for group in range((n + GROUP - 1) // GROUP):
        if maxima[group] >= least:
            for i in range(group * GROUP, min(group * GROUP + GROUP, n)):
                if key(bits[i]) >= least:
                    ids[n_found], values[n_found] = i, bits[i]
                    n_found += 1
    return n_found


@kernel
def keep_largest(ids, values, scratch, n, k):
    """Keep the `k` largest of `n` candidates, of equal ones those with smaller ids; returns how many are left."""
    if n <= k:
        return n
    keys, spare, maxima = scratch
    for i in range(n):
        keys[i] = key(values[i])
    least = kth_of_many(keys, n, k, spare, maxima)
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
def pick_largest(bits, weights, spare, maxima, out, n, k):
    """Write the `k` largest of `n` weights, in any order; `out` may be `spare`."""
    if k == n:
        for i in range(n):
            out[i] = weights[i]
        return
    least = kth_of_many(bits, n, k, spare, maxima)  # bits of numbers that are not negative are in their order
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
def sort_falling(x, n):
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
def sort_all_falling(bits, spare, out, counts, n):
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
