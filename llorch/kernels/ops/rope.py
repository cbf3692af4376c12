"""Rotary position embedding on consecutive pairs (2i, 2i+1), as `llama` GGUF files expect it; in place."""

from __future__ import annotations

from numpy import float32

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import (
    as_float32,
    as_int32,
    cosf,
    float32_of_bits,
    fused_multiply_add,
    powf,
    sinf,
)
from llorch.kernels.jit import kernel, operation, unit
from llorch.kernels.program import Program, operands

Q, Q_STRIDE, K, K_STRIDE, N_HEAD, N_HEAD_KV, HEAD_DIM, N_ROT = operands(8)


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
    for row in range(ith, n_rows, nth):
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
    table = as_float32(table_address)
    for head in range(n_head):
        x = as_float32(x_address + head * head_dim * 4)
        for i in range(n_rot // 2):
            cos, sin = table[2 * i], table[2 * i + 1]
            x0, x1 = x[2 * i], x[2 * i + 1]
            # One rounding less, as compilers make it of llama.cpp's source: the same bits.
            x[2 * i] = fused_multiply_add(x0, cos, -(x1 * sin))
            x[2 * i + 1] = fused_multiply_add(x0, sin, x1 * cos)


@unit("RoPE tables", 7)
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
    divisors, table = as_float32(freqs), as_float32(out)
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
