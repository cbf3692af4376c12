"""The slow twin of attention: one query in NumPy, in the kernel's order of additions, bit for bit."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from llorch.kernels.emit.scalars import fused_multiply_add
from llorch.kernels.layout import ATTENTION_PART, KV_BLOCK_SIZE
from tests.support.kernel_calls import exp_array

Floats = NDArray[np.float32]
Part = tuple[np.float32, np.float32, Floats]
"""Highest score, sum of weights, sum of weighted values (head_dim,)."""

ONE_PART = 1 << 30
"""As `part_size`: the whole context is one part, an online softmax from end to end."""


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _add_products(a: Floats, b: Floats, sums: Floats) -> None:
    """``sums += outer(a, b)[i]`` for each i in order, each rounded once: a (n,), b (n, m), sums (m,)."""
    for i in range(len(a)):
        for j in range(len(sums)):
            sums[j] = fused_multiply_add(a[i], b[i, j], sums[j])


def exponential(x: Floats) -> Floats:
    """The kernels' float32 exponential."""
    out = np.empty_like(x)
    exp_array(x, out)
    return out


def _sum_of_lanes(lanes: Floats) -> np.float32:
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return np.float32(lanes[0])


def attend_part(q: Floats, keys: Floats, values: Floats) -> Part:
    """One part of a context: q (head_dim,), keys and values (n, head_dim)."""
    scale = np.float32(1) / np.sqrt(np.float32(len(q)))
    highest, total, mixed = np.float32(-np.inf), np.float32(0), np.zeros_like(q)
    for start in range(0, len(keys), KV_BLOCK_SIZE):
        block = keys[start : start + KV_BLOCK_SIZE]
        scores = np.zeros(len(block), np.float32)
        _add_products(q, np.ascontiguousarray(block.T), scores)
        scaled = np.full(KV_BLOCK_SIZE, -np.inf, np.float32)
        scaled[: len(block)] = scores * scale
        before, highest = highest, max(highest, scaled.max())
        weights = exponential(scaled - highest)
        (factor,) = exponential(np.array([before - highest], np.float32))
        total = total * factor + _sum_of_lanes(weights[:16] + weights[16:])
        mixed = mixed * factor
        _add_products(weights[: len(block)], values[start : start + KV_BLOCK_SIZE], mixed)
    return highest, total, mixed


def merge(parts: list[Part]) -> Floats:
    """The output of a query, from its parts in the order in which they are added."""
    highest, total, mixed = parts[0]
    for next_highest, next_total, next_mixed in parts[1:]:
        before, highest = highest, max(highest, next_highest)
        old, new = exponential(np.array([before - highest, next_highest - highest], np.float32))
        total, mixed = total * old + next_total * new, mixed * old + next_mixed * new
    return mixed * (np.float32(1) / total)


def parts_of(q: Floats, keys: Floats, values: Floats, part_size: int = ATTENTION_PART) -> list[Part]:
    """What every part of a query's context gives, in order of position."""
    return [
        attend_part(q, keys[i : i + part_size], values[i : i + part_size])
        for i in range(0, len(keys), part_size)
    ]
