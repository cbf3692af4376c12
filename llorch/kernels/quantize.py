"""Activations become what the weights are multiplied with: Q8_0 blocks, or floats of the weight's precision."""

from __future__ import annotations

from numba import carray
from numpy import float32, int32

from llorch.kernels.convert import round_to_bfloat, round_to_half
from llorch.kernels.intrinsics import as_float32, as_int32
from llorch.kernels.jit import kernel
from llorch.kernels.linear.q8_dot import BIAS, BLOCK
from llorch.kernels.vectors import largest_magnitude, quantize_32


@kernel
def quantize_row_q8_0(x_address, n, q_address, d_address, s_address):
    """Quantise a row as llama.cpp quantises activations, to the same integers.

    Per block of 32: ``amax = max |x|``, ``d = float16(amax / 127)``, ``q = round_half_even(x * (127 / amax))``.
    A block with a NaN in it gets a NaN scale.

    Args:
        x_address: float32 (n,), n a multiple of 32.
        q_address: int8 (n,).
        d_address: float32 (n / 32,), scales after their round trip through float16.
        s_address: int32 (n / 32,), ``-BIAS * sum(q)``: where the micro-kernel's sums start.
    """
    n_blocks = n // BLOCK
    d = carray(as_float32(d_address), n_blocks)
    s = carray(as_int32(s_address), n_blocks)
    for block in range(n_blocks):
        x = x_address + block * BLOCK * 4
        amax = largest_magnitude(x)
        d[block] = round_to_half(amax / float32(127.0))
        inverse = float32(127.0) / amax if amax != float32(0) else float32(0)
        s[block] = int32(-BIAS) * quantize_32(x, inverse, q_address + block * BLOCK)


@kernel
def round_activations(type_id, x_address, n, out_address):
    """Round a float32 row to F16 (`type_id` 1) or BF16 precision, as llama.cpp does before such weights."""
    x = carray(as_float32(x_address), n)
    out = carray(as_float32(out_address), n)
    if type_id == 1:
        for i in range(n):
            out[i] = round_to_half(x[i])
    else:
        for i in range(n):
            out[i] = round_to_bfloat(x[i])
