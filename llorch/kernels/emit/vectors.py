"""Elementwise work on 16 float32 at a time.

LLVM does not vectorise a running maximum or a polynomial behind comparisons by itself without assumptions about
NaN that the kernels may not make; here the vectors are spelled out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import (
    F32,
    F64,
    I32,
    Int,
    constant,
    fma,
    load,
    loop,
    shuffle,
    splat,
    store,
    sum_lanes,
    vector,
)
from llorch.kernels.layout import FLOAT_LANES as LANES

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)
_BYTES = LANES * 4
ROUNDING = 12582912.0
"""1.5 * 2^23: adding it rounds half to even and leaves the integer in the low bits."""


LOWEST_EXPONENT, _HIGHEST_EXPONENT = -87.33654022216797, 88.37625885009766
"""Where e^x begins to be a normal float32, and where it saturates."""


def exp_vector(builder: Any, x: Any) -> Any:
    """e^x of a float32 vector within 1 ulp: 0 below float32's normal range, saturated above, NaN stays NaN."""
    n = x.type.count
    lowest, highest = constant(F32, n, LOWEST_EXPONENT), constant(F32, n, _HIGHEST_EXPONENT)
    too_low = builder.fcmp_ordered("<", x, lowest)
    clipped = builder.select(too_low, lowest, x)
    clipped = builder.select(builder.fcmp_ordered(">", x, highest), highest, clipped)
    result = builder.select(too_low, constant(F32, n, 0.0), exp_in_range(builder, clipped))
    return builder.select(builder.fcmp_unordered("uno", x, x), x, result)


def exp_in_range(builder: Any, x: Any, *, negated: bool = False) -> Any:
    """e^x, or e^-x with the bits that e^x has for -x, where it is a normal float32; in other lanes anything.

    x = n ln 2 + r with |r| <= ln 2 / 2, a degree-6 minimax polynomial for e^r (3e-9 relative; Taylor's of that
    degree is off by 3 ulp at the ends), and 2^n through the exponent.
    """
    n, sign = x.type.count, -1.0 if negated else 1.0
    magic = constant(F32, n, ROUNDING)
    shifted = fma(builder, x, constant(F32, n, sign * 1.4426950216293335), magic)
    whole = builder.fsub(shifted, magic)
    r = fma(builder, whole, constant(F32, n, sign * -0.693145751953125), x)
    r = fma(builder, whole, constant(F32, n, sign * -1.428606765330187e-06), r)  # -r if negated
    p = constant(F32, n, _float32(0.00138145406))
    for coefficient in (0.00836874545, 0.041668389, 0.166665211, 0.49999994, 1.0, 1.0):
        p = fma(builder, builder.fneg(p) if negated else p, r, constant(F32, n, _float32(coefficient)))
    words = vector(I32, n)
    exponent = builder.shl(builder.bitcast(shifted, words), constant(I32, n, 23))
    return builder.bitcast(builder.add(builder.bitcast(p, words), exponent), x.type)


def _float32(value: float) -> float:
    """`value` rounded to float32, as LLVM's constants must be."""
    return float(np.float32(value))


def larger(builder: Any, a: Any, b: Any) -> Any:
    """The larger lanes of two float32 vectors; those of `b` where one is NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def add_neighbours(builder: Any, a: Any, b: Any | None = None) -> Any:
    """Sums of neighbouring lanes of an integer vector `a`, or of `a` and then `b`."""
    n = a.type.count * (1 if b is None else 2)
    other = ir.Constant(a.type, ir.Undefined) if b is None else b
    even, odd = (shuffle(builder, a, other, range(first, n, 2)) for first in range(2))
    return builder.add(even, odd)


@emitted(types.void(types.int64, types.int64, types.int64, types.int64))
def swiglu_vectors(builder: Any, gate: Int, up: Int, n: Int, out: Int) -> None:
    """``out = gate / (1 + e^-gate) * up`` for `n` vectors of 16 float32 at the given addresses."""
    # e^-gate below float32's range does nothing to 1 + e^-gate, so it need not become 0; and where it is NaN, so is the
    # numerator. Without either, and with e^-gate of gate instead of e^x of its negation, 19 cycles per vector became
    # 15 on Zen 4. A reciprocal instead of the division would give other bits.
    lowest, highest = constant(F32, LANES, -_HIGHEST_EXPONENT), constant(F32, LANES, -LOWEST_EXPONENT)

    def body(i: Int, nothing: list[Any]) -> list[Any]:
        at = i * _BYTES
        g = load(_FLOATS, gate + at, align=4)
        clipped = larger(builder, lowest, g)
        clipped = builder.select(builder.fcmp_ordered("<", highest, clipped), highest, clipped)
        e = exp_in_range(builder, clipped, negated=True)
        silu = builder.fdiv(g, builder.fadd(constant(F32, LANES, 1.0), e))
        store(builder.fmul(silu, load(_FLOATS, up + at, align=4)), out + at, align=4)
        return []

    loop(n, [], body)


def _sums_of_squares(builder: Any, rows: Sequence[Int], n: Int) -> list[Any]:
    """Sums of the float32 squares of `n` float32 at each of some addresses, each in eight float64 lanes."""

    def square(type_: Any, address: Int) -> Any:
        value = load(type_, address, align=4)
        return builder.fmul(value, value)

    def add_eight(i: Int, sums: list[Any]) -> list[Any]:
        squares = (builder.fpext(square(vector(F32, 8), x + i * 32), vector(F64, 8)) for x in rows)
        return [builder.fadd(total, value) for total, value in zip(sums, squares, strict=True)]

    def add_one(i: Int, totals: list[Any]) -> list[Any]:
        squares = (builder.fpext(square(F32, x + (n_whole + i) * 4), F64) for x in rows)
        return [builder.fadd(total, value) for total, value in zip(totals, squares, strict=True)]

    n_whole = n & -8
    sums = loop(n_whole >> 3, [constant(F64, 8, 0.0) for _ in rows], add_eight)
    return loop(n - n_whole, [sum_lanes(builder, lanes) for lanes in sums], add_one)


@emitted(types.float64(types.int64, types.int64))
def sum_of_squares(builder: Any, x: Int, n: Int) -> Any:
    """Sum of the float32 squares of `n` float32 at address `x`, in eight float64 lanes."""
    return _sums_of_squares(builder, [x], n)[0]


@emitted(types.UniTuple(types.float64, 2)(types.int64, types.int64, types.int64))
def two_sums_of_squares(builder: Any, x: Int, y: Int, n: Int) -> Any:
    """`sum_of_squares` of two rows, whose additions wait for those before them at the same time."""
    pair = ir.Constant(ir.ArrayType(F64, 2), ir.Undefined)
    for i, total in enumerate(_sums_of_squares(builder, [x, y], n)):
        pair = builder.insert_value(pair, total, i)
    return pair


@emitted(types.float32(types.float32))
def exp_float32(builder: Any, x: Any) -> Any:
    """`exp_vector` of one float32."""
    return builder.extract_element(exp_vector(builder, splat(builder, x, 4)), ir.Constant(I32, 0))
