"""Activations as Q8_K blocks, as llama.cpp quantises them before K types and IQ4_XS: the same integers come out."""

from __future__ import annotations

import numpy as np

from llorch.kernels.buffers import ActivationForm
from llorch.kernels.emit.quantize import quantize_256
from llorch.kernels.emit.scalars import as_int64
from llorch.kernels.jit import unit
from llorch.machine.memory import aligned_rows, aligned_zeros

(
    QUANTS, QUANT_STRIDE, SCALES, SCALE_STRIDE, SUMS_OF_16, SUMS_OF_16_STRIDE, SUMS_OF_32, SUMS_OF_32_STRIDE,
    STARTS_4, STARTS_4_STRIDE, STARTS_32, STARTS_32_STRIDE, STARTS_BIAS, STARTS_BIAS_STRIDE,
) = range(1, 15)  # fmt: skip
"""Places in the form's table, each with its row stride: int8 (n_rows, n), float32 (n_rows, n / 256), the integers'
sums, int16 (n_rows, n / 16) and (n_rows, n / 32), and where sums with unsigned weights start, int32: the former times
-4 and -32 (AVX2: as two int16, of columns 0 and 1 of every 4, and of 2 and 3), the latter times minus the path's
bias."""

_BLOCK = 256


@unit("quantising activations to Q8_K", 5)
def fill_q8_k(table, x, row, start, n):
    """Columns ``start <= i < start + n`` of a row: float32 at `x`, into the buffers of `table`.

    Per block of 256: ``m`` the first value of largest magnitude, ``d = 1 / (-127 / m)``, ``q = round_half_even(x *
    (-127 / m))``. A block with a NaN in it gets a NaN scale.
    """
    t = as_int64(table)
    for column in range(0, n, _BLOCK):
        at = start + column
        quantize_256(
            x + column * 4,
            t[QUANTS] + row * t[QUANT_STRIDE] + at,
            t[SCALES] + row * t[SCALE_STRIDE] + at // _BLOCK * 4,
            t[SUMS_OF_16] + row * t[SUMS_OF_16_STRIDE] + at // 16 * 2,
            t[SUMS_OF_32] + row * t[SUMS_OF_32_STRIDE] + at // 32 * 2,
            t[STARTS_4] + row * t[STARTS_4_STRIDE] + at // 16 * 4,
            t[STARTS_32] + row * t[STARTS_32_STRIDE] + at // 16 * 4,
            t[STARTS_BIAS] + row * t[STARTS_BIAS_STRIDE] + at // 32 * 4,
        )


def _allocate(n_rows: int, n: int) -> list[np.ndarray]:
    return [
        aligned_rows(n_rows, n, np.int8),
        aligned_zeros((n_rows, n // _BLOCK), np.float32),
        aligned_zeros((n_rows, n // 16), np.int16),
        aligned_zeros((n_rows, n // 32), np.int16),
        *(aligned_zeros((n_rows, n // columns), np.int32) for columns in (16, 16, 32)),
    ]


Q8_K = ActivationForm("Q8_K", _allocate, fill_q8_k)
