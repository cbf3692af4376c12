"""Twins of what is done to single rows: the exponential, SwiGLU, RoPE by a table, and where the cache keeps a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.layout import KV_BLOCK_SIZE, padded_head_dim
from tests.support.naive import F32, Floats, bits, fused_multiply_add

_LOWEST, _HIGHEST = F32(-87.33654022216797), F32(88.37625885009766)
_ROUNDING = F32(12582912)
_COEFFICIENTS = (0.00138145406, 0.00836874545, 0.041668389, 0.166665211, 0.49999994, 1, 1)


def exponential(x: Floats) -> Floats:
    """e^x, operation by operation as the kernels compute it, for numbers."""
    clipped = np.clip(x, _LOWEST, _HIGHEST)
    shifted = fused_multiply_add(clipped, F32(1.4426950216293335), _ROUNDING)
    whole = shifted - _ROUNDING
    r = fused_multiply_add(whole, F32(-0.693145751953125), clipped)
    r = fused_multiply_add(whole, F32(-1.428606765330187e-06), r)
    p = np.full_like(x, _COEFFICIENTS[0])
    for coefficient in _COEFFICIENTS[1:]:
        p = fused_multiply_add(p, r, F32(coefficient))
    result = (bits(p) + (bits(shifted) << np.uint32(23))).view(F32)
    return np.where(x < _LOWEST, F32(0), result).reshape(x.shape)


def swiglu(gate: Floats, up: Floats) -> Floats:
    """``gate / (1 + e^-gate) * up``."""
    with np.errstate(over="ignore", invalid="ignore"):
        product: Floats = gate / (F32(1) + exponential(-gate)) * up
    return product


def rotate(x: Floats, table: Floats, positions: Any) -> Floats:
    """RoPE of x (n, heads, head_dim) by a table of cosines and sines (positions, pairs, 2)."""
    n_rot = 2 * table.shape[1]
    cos, sin = (table[positions, None, :, i] for i in range(2))
    even, odd, out = x[..., 0:n_rot:2], x[..., 1:n_rot:2], x.copy()
    out[..., 0:n_rot:2] = fused_multiply_add(even, cos, -(odd * sin))
    out[..., 1:n_rot:2] = fused_multiply_add(even, sin, odd * cos)
    return out


def stored(rows: Floats, places: Any, n_blocks: int, dtype: Any, *, columns: bool) -> NDArray[Any]:
    """Rows (n, heads, head_dim) in an empty cache, as columns like keys or as rows like values.

    places: (block, index inside) of each row.
    """
    _, n_head, head_dim = rows.shape
    width = head_dim if columns else padded_head_dim(head_dim)
    cache = np.zeros((n_blocks, n_head, KV_BLOCK_SIZE, width), dtype)
    for row, (block, inside) in zip(rows, places, strict=True):
        with np.errstate(over="ignore"):
            cache[block, :, inside, :head_dim] = row.astype(dtype)
    return np.ascontiguousarray(cache.swapaxes(2, 3)) if columns else cache
