"""Rotary position embedding on consecutive pairs (2i, 2i+1), as `llama` GGUF files expect it; in place."""

from __future__ import annotations

from numpy import ceil, float32, floor, pi

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.rotate import rotate_heads
from llorch.kernels.emit.scalars import (
    as_float32,
    as_int32,
    cosf,
    float32_of_bits,
    fused_multiply_add,
    logf,
    powf,
    sinf,
)
from llorch.kernels.jit import kernel, operation, unit
from llorch.kernels.layout import FLOAT_LANES
from llorch.kernels.ops.shares import share_of
from llorch.kernels.program import Program, operands

Q, Q_STRIDE, K, K_STRIDE, N_HEAD, N_HEAD_KV, HEAD_DIM, N_ROT = operands(8)

_YARN_FAST, _YARN_SLOW = 32, 1
"""Turns over the original context from which on a pair is kept as it is, and up to which it is shrunk in full."""


def rope(
    program: Program, layer: int, q: Rows, k: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int
) -> None:
    """Write the rotation of q and k.

    Args:
        program: gets the instruction.
        layer: its layer.
        q: float32 (n_rows, n_head * head_dim), changed.
        k: float32 (n_rows, n_head_kv * head_dim), changed.
        n_head, n_head_kv, head_dim: sizes.
        n_rot: components of each head that are rotated.
    """
    values = {
        Q: q.address,
        Q_STRIDE: q.stride,
        K: k.address,
        K_STRIDE: k.stride,
        N_HEAD: n_head,
        N_HEAD_KV: n_head_kv,
        HEAD_DIM: head_dim,
        N_ROT: n_rot,
    }
    program.add(run_rope, "rope", layer, values, keep=(q, k))


@operation("RoPE", name="rope")
def run_rope(o, s, n_rows, ith, nth, counter, scratch):
    """q: float32 (n_rows, n_head, head_dim). k: float32 (n_rows, n_head_kv, head_dim)."""
    first, last = share_of(n_rows, ith, nth)
    for row in range(first, last):
        table = rope_table_row(s, row, o[N_ROT])
        rope_row(o[Q] + row * o[Q_STRIDE], o[N_HEAD], o[HEAD_DIM], o[N_ROT], table)
        rope_row(o[K] + row * o[K_STRIDE], o[N_HEAD_KV], o[HEAD_DIM], o[N_ROT], table)


@kernel
def rope_table_row(s, row, n_rot):
    """Address of float32 (n_rot / 2, 2), cosines and sines for the position of a row of the step."""
    return s[st.ROPE_TABLE] + as_int32(s[st.POSITIONS])[row] * n_rot * 4


@kernel
def rope_row(x_address, n_head, head_dim, n_rot, table_address):
    """Rotate the first `n_rot` components of every head in place.

    Args:
        x_address: float32 (n_head, head_dim).
        table_address: float32 (n_rot / 2, 2), cosine and sine for this row's position.
    """
    n_vectors = n_rot // FLOAT_LANES
    rotate_heads(x_address, n_head, head_dim * 4, n_vectors, table_address)
    table = as_float32(table_address)
    for head in range(n_head if n_rot % FLOAT_LANES else 0):
        x = as_float32(x_address + head * head_dim * 4)
        for i in range(n_vectors * (FLOAT_LANES // 2), n_rot // 2):
            cos, sin = table[2 * i], table[2 * i + 1]
            x0, x1 = x[2 * i], x[2 * i + 1]
            x[2 * i] = fused_multiply_add(x0, cos, -(x1 * sin))
            x[2 * i + 1] = fused_multiply_add(x0, sin, x1 * cos)


@unit("RoPE tables", 9)
def fill_rope_table(first, last, half, base, scale, magnitude, n_ctx_orig, freqs, out):
    """Cosines and sines of all pairs at positions ``first <= p < last``.

    The angle of pair i is the float32 product ``p * s * s * ... * s`` (i factors, each rounded), because
    llama.cpp computes it that way and the rounding is visible at large positions. Cosines and sines are the C
    library's, which llama.cpp takes, too. With YaRN the angle is a mix of the plain and the scaled one: pairs that turn
    often over the original context keep the plain one.

    Args:
        half: pairs.
        base, scale, magnitude: bits of float32 factors: of the frequencies, the angles, the cosines and sines.
        n_ctx_orig: positions before YaRN stretched them; 0 without YaRN.
        freqs: address of float32 (half,), divisors of the angles, or 0.
        out: address of float32 (last - first, half, 2).

    Source: llama.cpp, `ggml_rope_cache_init` and what `llama_context` makes of YaRN's factors; bit-exact.
    """
    frequency, shrink, amplitude = float32_of_bits(base), float32_of_bits(scale), float32_of_bits(magnitude)
    step = powf(frequency, float32(-2) / float32(2 * half))
    divisors, table = as_float32(freqs), as_float32(out)
    low = high = float32(0)
    if n_ctx_orig:
        low = floor(_yarn_pair(half, n_ctx_orig, float32(_YARN_FAST), frequency))
        high = ceil(_yarn_pair(half, n_ctx_orig, float32(_YARN_SLOW), frequency))
        low, high = max(low, float32(0)), min(high, float32(2 * half - 1))
        amplitude *= _yarn_magnitude(float32(1) / shrink)
        amplitude *= fused_multiply_add(float32(0.1), logf(float32(1) / shrink), float32(1))
    for position in range(first, last):
        theta = float32(position)
        at = (position - first) * 2 * half
        for i in range(half):
            angle = theta / divisors[i] if freqs else theta
            shrunk = angle * shrink
            if n_ctx_orig:
                place = (float32(i) - low) / max(float32(0.001), high - low)
                kept = float32(1) - min(float32(1), max(float32(0), place))
                shrunk = fused_multiply_add(shrunk, float32(1) - kept, angle * kept)
            table[at + 2 * i] = cosf(shrunk) * amplitude
            table[at + 2 * i + 1] = sinf(shrunk) * amplitude
            theta *= step
    return 0


@kernel
def _yarn_pair(half, n_ctx_orig, n_turns, base):
    """Number of the pair that turns `n_turns` times over the original context, as a float32 with a fraction."""
    turns = float32(n_ctx_orig) / (n_turns * float32(2) * float32(pi))
    return float32(2 * half) * logf(turns) / (float32(2) * logf(base))


@kernel
def _yarn_magnitude(factor):
    """What llama.cpp multiplies the magnitude with, so that `ggml`'s own correction leaves ``1 + 0.1 ln factor``."""
    growth = float32(0.1) * logf(factor)
    wanted = float32(1) if factor <= float32(1) else growth + float32(1)
    return wanted * (float32(1) / (float32(1) + growth))
