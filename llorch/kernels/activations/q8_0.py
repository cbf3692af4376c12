"""Activations as Q8_0 blocks, as llama.cpp quantises them before Q8_0 weights: the same integers come out."""

from __future__ import annotations

import numpy as np
from numpy import float32, int32

from llorch.kernels import paths
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.convert import round_to_half
from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64
from llorch.kernels.emit.vectors import largest_magnitude, quantize_32
from llorch.kernels.jit import kernel, unit
from llorch.machine.memory import aligned_zeros

QUANTS, QUANT_STRIDE, SCALES, SCALE_STRIDE, SUMS, SUM_STRIDE = range(1, 7)
"""Places in the form's table: int8 (n_rows, n), float32 and int32 (n_rows, n / 32), each with its row stride."""

_BLOCK = 32
_BIAS = paths.chosen().bias


@kernel
def quantize_row_q8_0(x_address, n, q_address, d_address, s_address):
    """Quantise a row as llama.cpp quantises activations, to the same integers.

    Per block of 32: ``amax = max |x|``, ``d = float16(amax / 127)``, ``q = round_half_even(x * (127 / amax))``.
    A block with a NaN in it gets a NaN scale.

    Args:
        x_address: float32 (n,), n a multiple of 32.
        q_address: int8 (n,).
        d_address: float32 (n / 32,), scales after their round trip through float16.
        s_address: int32 (n / 32,), ``-bias * sum(q)``: where the micro-kernel's sums start.
    """
    d, s = as_float32(d_address), as_int32(s_address)
    for block in range(n // _BLOCK):
        x = x_address + block * _BLOCK * 4
        amax = largest_magnitude(x)
        d[block] = round_to_half(amax / float32(127.0))
        inverse = float32(127.0) / amax if amax != float32(0) else float32(0)
        s[block] = int32(-_BIAS) * quantize_32(x, inverse, q_address + block * _BLOCK)


@unit("quantising activations to Q8_0", 5)
def fill_q8_0(table, x, row, start, n):
    """Columns ``start <= i < start + n`` of a row: float32 at `x`, into the buffers of `table`."""
    t = as_int64(table)
    first = start // _BLOCK * 4
    quantize_row_q8_0(
        x,
        n,
        t[QUANTS] + row * t[QUANT_STRIDE] + start,
        t[SCALES] + row * t[SCALE_STRIDE] + first,
        t[SUMS] + row * t[SUM_STRIDE] + first,
    )


def _allocate(n_rows: int, n: int) -> list[np.ndarray]:
    blocks = (n_rows, n // _BLOCK)
    return [
        aligned_zeros((n_rows, n), np.int8),
        aligned_zeros(blocks, np.float32),
        aligned_zeros(blocks, np.int32),
    ]


Q8_0 = ActivationForm("Q8_0", _allocate, fill_q8_0)
