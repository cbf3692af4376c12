"""Activations as int8 with one scale a row, as compressed-tensors quantises them for `w8a8`, to the same integers.

It computes with the number type that the model computes in. llorch's activations are float32, so the integers are those
of a model in F32; one in BF16 rounds activations, scales and quotients to BF16 first, and its integers differ by one
now and then.

Source: `calculate_qparams` and `quantize` of compressed-tensors; bit-exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from llorch.kernels import paths
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64
from llorch.kernels.emit.values import (
    F32,
    I8,
    I16,
    I32,
    Int,
    call,
    constant,
    load,
    loop,
    shuffle,
    splat,
    store,
    vector,
)
from llorch.kernels.emit.vectors import ROUNDING
from llorch.kernels.jit import unit
from llorch.kernels.layout import FLOAT_LANES as LANES
from llorch.kernels.tiles.layout import BYTE_COLUMN_BYTES, EVEN_FIRST
from llorch.machine.memory import aligned_rows, aligned_zeros

QUANTS, QUANT_STRIDE, SCALES, SCALE_STRIDE, SUMS, SUM_STRIDE = range(1, 7)
"""Places in the form's table, each with its row stride: int8 (n_rows, n), or int16 (`BYTE_COLUMN_BYTES`), float32
(n_rows, 1) scales, int32 (n_rows, 1) sums times minus the path's bias."""

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)
_BIAS = paths.chosen().bias
_HALF_RANGE = np.float32(127.5)
_SMALLEST_SCALE = np.finfo(np.float32).eps
"""The scale of a row of zeros."""


@emitted(types.float32(types.int64, types.int64))
def _largest_magnitude(builder: Any, x: Int, n: Int) -> Any:
    """max |x| of `n` float32, a multiple of 16; NaN if there is one, since as an integer that is the largest."""

    def body(i: Int, largest: list[Any]) -> list[Any]:
        words = builder.and_(load(_WORDS, x + i * (LANES * 4), align=4), constant(I32, LANES, 0x7FFFFFFF))
        return [call(builder, "llvm.smax.v16i32", _WORDS, [largest[0], words])]

    (words,) = loop(n >> 4, [constant(I32, LANES, 0)], body)
    return builder.bitcast(call(builder, "llvm.vector.reduce.smax.v16i32", I32, [words]), F32)


@emitted(types.int32(types.int64, types.int64, types.float32, types.int64))
def _quantize(builder: Any, x: Int, n: Int, scale: Any, out: Int) -> Any:
    """``out = round_half_even(clamp(x / scale, -128, 127))`` for `n` float32; returns the sum of the integers."""
    divisor, magic = splat(builder, scale, LANES), constant(F32, LANES, ROUNDING)
    lowest, highest = constant(F32, LANES, -128.0), constant(F32, LANES, 127.0)

    def body(i: Int, total: list[Any]) -> list[Any]:
        value = builder.fdiv(load(_FLOATS, x + i * (LANES * 4), align=4), divisor)
        value = builder.select(builder.fcmp_ordered("<", value, lowest), lowest, value)
        value = builder.select(builder.fcmp_ordered(">", value, highest), highest, value)
        bits = builder.bitcast(builder.fadd(value, magic), _WORDS)
        integers = builder.sub(bits, builder.bitcast(magic, _WORDS))
        if BYTE_COLUMN_BYTES == 1:
            stored = builder.trunc(integers, vector(I8, LANES))
        else:
            words = builder.trunc(integers, vector(I16, LANES))
            stored = shuffle(builder, words, ir.Constant(words.type, ir.Undefined), EVEN_FIRST[:LANES])
        store(stored, out + i * (LANES * BYTE_COLUMN_BYTES), align=LANES * BYTE_COLUMN_BYTES)
        return [builder.add(total[0], integers)]

    (total,) = loop(n >> 4, [constant(I32, LANES, 0)], body)
    return call(builder, "llvm.vector.reduce.add.v16i32", I32, [total])


@unit("quantising activations to int8 rows", 5)
def fill_int8_rows(table, x, row, start, n):
    """All `n` columns of a row (`start` is 0): float32 at `x`, into the buffers of `table`.

    ``scale = max |x| / 127.5``, where that is 0 the smallest scale. A row with a NaN in it gets a NaN scale.
    """
    t = as_int64(table)
    scale = _largest_magnitude(x, n) / _HALF_RANGE
    if scale == np.float32(0):
        scale = np.float32(_SMALLEST_SCALE)
    total = _quantize(x, n, scale, t[QUANTS] + row * t[QUANT_STRIDE])
    as_float32(t[SCALES] + row * t[SCALE_STRIDE])[0] = scale
    as_int32(t[SUMS] + row * t[SUM_STRIDE])[0] = np.int32(-_BIAS) * total


def _allocate(n_rows: int, n: int) -> list[np.ndarray]:
    return [
        aligned_rows(n_rows, n, np.int8 if BYTE_COLUMN_BYTES == 1 else np.int16),
        aligned_zeros((n_rows, 1), np.float32),
        aligned_zeros((n_rows, 1), np.int32),
    ]


INT8_ROWS = ActivationForm("I8 rows", _allocate, fill_int8_rows, is_whole_row=True)
