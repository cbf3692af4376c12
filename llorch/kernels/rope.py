"""Rotary position embedding on consecutive pairs (2i, 2i+1), as `llama` GGUF files expect it."""

from __future__ import annotations

from numba import carray
from numpy import float32

from llorch.kernels.intrinsics import as_float32, float32_of_bits, fused_multiply_add
from llorch.kernels.jit import entry_point, kernel
from llorch.kernels.libm import cosf, powf, sinf


@entry_point("int64(int64, int64, int64, int64, int64, int64, int64)")
def fill_rope_table(first, last, half, base, scale, freqs, out):
    """Cosines and sines of all pairs at positions ``first <= p < last``.

    The angle of pair i is the float32 product ``p * s * s * ... * s`` (i factors, each rounded), because
    llama.cpp computes it that way and the rounding is visible at large positions. Cosines and sines are the C
    library's, which llama.cpp takes, too.

    Args:
        half: pairs.
        base, scale: bits of float32 factors, of the frequencies and of the angles.
        freqs: address of float32 (half,), divisors of the angles, or 0.
        out: address of float32 (last - first, half, 2).

    Source: llama.cpp, `ggml_rope_cache_init` without YaRN; bit-exact.
    """
    step = powf(float32_of_bits(base), float32(-2) / float32(2 * half))
    divisors = carray(as_float32(freqs), half)
    table = carray(as_float32(out), 2 * half * (last - first))
    for position in range(first, last):
        theta = float32(position)
        at = (position - first) * 2 * half
        for i in range(half):
            angle = theta / divisors[i] if freqs else theta
            angle *= float32_of_bits(scale)
            table[at + 2 * i] = cosf(angle)
            table[at + 2 * i + 1] = sinf(angle)
            theta *= step
    return 0


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
            # One rounding less, as compilers make it of llama.cpp's source: the same bits.
            x[2 * i] = fused_multiply_add(x0, cos, -(x1 * sin))
            x[2 * i + 1] = fused_multiply_add(x0, sin, x1 * cos)
