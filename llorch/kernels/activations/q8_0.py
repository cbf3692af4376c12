"""Activations as Q8_0 blocks, as llama.cpp quantises them before Q8_0 weights: the same integers come out.

Its Q8_1, which meets Q4_1 and Q5_1 weights, has the same integers and scales, and a weighted sum beside them: one form
serves both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llorch.kernels.buffers import ActivationForm
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.quantize import quantize_4_blocks, quantize_16_blocks, quantize_block
from llorch.kernels.emit.scalars import as_int64
from llorch.kernels.emit.values import I8, I16, Int, load, loop, shuffle, store, vector
from llorch.kernels.jit import kernel, unit
from llorch.kernels.tiles.layout import BYTE_COLUMN_BYTES, EVEN_FIRST, UNIT
from llorch.machine.memory import aligned_rows, aligned_zeros

(
    QUANTS, QUANT_STRIDE, SCALES, SCALE_STRIDE, SUMS, SUM_STRIDE, SUMS_8, SUMS_8_STRIDE, SUMS_16, SUMS_16_STRIDE,
    WEIGHTED_SUMS, WEIGHTED_SUMS_STRIDE, WORDS, WORDS_STRIDE,
) = range(1, 15)  # fmt: skip
"""Places in the form's table, each with its row stride: int8 (n_rows, n), then (n_rows, n / 32) of one stride:
float32 scales, int32 sums times minus the path's bias, times -8 and -16 (where sums with unsigned weights start), and
float32 weighted sums; where `BYTE_COLUMN_BYTES` is 2, the integers once more, int16 (n_rows, n) in the order said
there."""

_BLOCK = 32
_IS_WIDENED = BYTE_COLUMN_BYTES == 2


@emitted()
def _widen(builder: Any, q: Int, n: Int, out: Int) -> None:
    """`n` int8, a multiple of 32, as int16, of every 4 the even ones first."""

    def body(block: Int, _: list[Any]) -> list[Any]:
        value = load(vector(I8, UNIT), q + block * UNIT, align=1)
        value = shuffle(builder, value, value, EVEN_FIRST)
        store(builder.sext(value, vector(I16, UNIT)), out + block * (2 * UNIT), align=2)
        return []

    loop(n >> 5, [], body)


@kernel
def quantize_row_q8_0(
    x_address, n, q_address, d_address, s_address, s8_address, s16_address, weighted_address
):
    """Quantise a row as llama.cpp quantises activations, to the same integers.

    Per block of 32: ``amax = max |x|``, ``d = float16(amax / 127)``, ``q = round_half_even(x * (127 / amax))``.
    A block with a NaN in it gets a NaN scale.

    Args:
        x_address: float32 (n,), n a multiple of 32.
        q_address: int8 (n,).
        d_address: float32 (n / 32,), scales after their round trip through float16.
        s_address, s8_address, s16_address: int32 (n / 32,), ``-bias * sum(q)`` for the path's bias, 8 and 16.
        weighted_address: float32 (n / 32,), ``amax / 127 * sum(q)`` after its round trip through float16.
    """
    # A row's last blocks go one by one, never together with some that are done already: 2 single blocks cost less.
    block, n_blocks = 0, n // _BLOCK
    while block < n_blocks:
        x, q, at = x_address + block * _BLOCK * 4, q_address + block * _BLOCK, block * 4
        d, s, s8, s16, weighted = (
            d_address + at, s_address + at, s8_address + at, s16_address + at, weighted_address + at,
        )  # fmt: skip
        if block + 16 <= n_blocks:
            quantize_16_blocks(x, q, d, s, s8, s16, weighted)
            block += 16
        elif block + 4 <= n_blocks:
            quantize_4_blocks(x, q, d, s, s8, s16, weighted)
            block += 4
        else:
            quantize_block(x, q, d, s, s8, s16, weighted)
            block += 1


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
        t[SUMS_8] + row * t[SUMS_8_STRIDE] + first,
        t[SUMS_16] + row * t[SUMS_16_STRIDE] + first,
        t[WEIGHTED_SUMS] + row * t[WEIGHTED_SUMS_STRIDE] + first,
    )
    if _IS_WIDENED:
        q = t[QUANTS] + row * t[QUANT_STRIDE] + start
        _widen(q, n, t[WORDS] + row * t[WORDS_STRIDE] + 2 * start)


def _allocate(n_rows: int, n: int) -> list[np.ndarray]:
    of_blocks = (np.float32, np.int32, np.int32, np.int32, np.float32)
    return [
        aligned_rows(n_rows, n, np.int8),
        *(aligned_zeros((n_rows, n // _BLOCK), dtype) for dtype in of_blocks),
        *(aligned_rows(n_rows, n, np.int16) for _ in range(_IS_WIDENED)),
    ]


Q8_0 = ActivationForm("Q8_0", _allocate, fill_q8_0)
