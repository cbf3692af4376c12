"""Rotary position embedding on consecutive pairs (2i, 2i+1), as `llama` GGUF files expect it."""

from __future__ import annotations

from numba import carray

from llorch.kernels.intrinsics import as_float32
from llorch.kernels.jit import kernel


@kernel
def rope_row(x_address, n_head, head_dim, n_rot, table_address):
    """Rotate the first `n_rot` components of every head in place.

    Args:
        x_address: float32 (n_head, head_dim).
        table_address: float32 (n_rot / 2, 2), cosine and sine for this row's position.
    """
    half = n_rot // 2
    table = carray(as_float32(table_address), n_rot)
    for head in range(n_head):
        x = carray(as_float32(x_address + head * head_dim * 4), head_dim)
        for i in range(half):
            cos, sin = table[2 * i], table[2 * i + 1]
            x0, x1 = x[2 * i], x[2 * i + 1]
            x[2 * i] = x0 * cos - x1 * sin
            x[2 * i + 1] = x0 * sin + x1 * cos
