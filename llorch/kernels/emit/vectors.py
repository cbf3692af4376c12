"""Elementwise work on 16 float32 at a time.

LLVM does not vectorise a running maximum or a polynomial behind comparisons by itself without assumptions about
NaN that the kernels may not make; here the vectors are spelled out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import (
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    Int,
    call,
    constant,
    fma,
    load,
    loop,
    splat,
    store,
    sum_lanes,
    vector,
)
from llorch.kernels.layout import FLOAT_LANES as LANES

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)
_BYTES = LANES * 4
_ROUNDING = 12582912.0
"""1.5 * 2^23: adding it rounds half to even and leaves the integer in the low bits."""


def exp_vector(builder: Any, x: Any) -> Any:
    """e^x of a float32 vector within 1 ulp: 0 below float32's normal range, saturated above, NaN stays NaN.

    x = n ln 2 + r with |r| <= ln 2 / 2, a degree-6 minimax polynomial for e^r (3e-9 relative; Taylor's of that
    degree is off by 3 ulp at the ends), and 2^n through the exponent.
    """
    n = x.type.count
    lowest, highest = constant(F32, n, -87.33654022216797), constant(F32, n, 88.37625885009766)
    too_low = builder.fcmp_ordered("<", x, lowest)
    clipped = builder.select(too_low, lowest, x)
    clipped = builder.select(builder.fcmp_ordered(">", x, highest), highest, clipped)
    magic = constant(F32, n, _ROUNDING)
    shifted = fma(builder, clipped, constant(F32, n, 1.4426950216293335), magic)
    whole = builder.fsub(shifted, magic)
    r = fma(builder, whole, constant(F32, n, -0.693145751953125), clipped)
    r = fma(builder, whole, constant(F32, n, -1.428606765330187e-06), r)
    p = constant(F32, n, _float32(0.00138145406))
    for coefficient in (0.00836874545, 0.041668389, 0.166665211, 0.49999994, 1.0, 1.0):
        p = fma(builder, p, r, constant(F32, n, _float32(coefficient)))
    words = vector(I32, n)
    exponent = builder.shl(builder.bitcast(shifted, words), constant(I32, n, 23))
    result = builder.bitcast(builder.add(builder.bitcast(p, words), exponent), x.type)
    result = builder.select(too_low, constant(F32, n, 0.0), result)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, result)


def _float32(value: float) -> float:
    """`value` rounded to float32, as LLVM's constants must be."""
    return float(np.float32(value))


def max_lanes(builder: Any, value: Any) -> Any:
    """Largest lane of a float32 vector; NaN lanes are passed over."""
    n = value.type.count
    undefined = ir.Constant(value.type, ir.Undefined)
    total = n
    while n > 1:
        n //= 2
        mask = [(i + n) if i < n else 0 for i in range(total)]
        moved = builder.shuffle_vector(value, undefined, ir.Constant(vector(I32, total), mask))
        value = _larger(builder, value, moved)
    return builder.extract_element(value, ir.Constant(I32, 0))


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@emitted(types.float32(types.int64))
def largest_magnitude(builder: Any, x: Int) -> Any:
    """max |x| of the 32 float32 at address `x`; NaN if there is one."""
    # Magnitudes are compared as integers, where NaN is the largest: a float comparison ignores NaN, so the maximum
    # would hide it.
    return builder.bitcast(_largest_word(builder, [_magnitude(builder, x, i) for i in range(2)]), F32)


def _magnitude(builder: Any, x: Int, i: int) -> Any:
    """Vector number `i` at address `x` without its signs, as integers."""
    return builder.and_(load(_WORDS, x, i * _BYTES, align=4), constant(I32, LANES, 0x7FFFFFFF))


def _largest_word(builder: Any, words: list[Any]) -> Any:
    largest = words[0]
    for other in words[1:]:
        largest = call(builder, "llvm.smax.v16i32", _WORDS, [largest, other])
    return call(builder, "llvm.vector.reduce.smax.v16i32", I32, [largest])


def _first_largest(builder: Any, x: Int, n_vectors: int) -> Any:
    """The first value of largest magnitude in `n_vectors` vectors at address `x`, with its sign."""
    magnitudes = [_magnitude(builder, x, i) for i in range(n_vectors)]
    largest = splat(builder, _largest_word(builder, magnitudes), LANES)
    # Places count down, so that the first one is the largest.
    left = [
        builder.select(
            builder.icmp_signed("==", words, largest),
            ir.Constant(_WORDS, [(n_vectors - i) * LANES - lane for lane in range(LANES)]),
            constant(I32, LANES, 0),
        )
        for i, words in enumerate(magnitudes)
    ]
    place = builder.sub(ir.Constant(I32, n_vectors * LANES), _largest_word(builder, left))
    return load(F32, x + Int(builder, builder.zext(place, I64)) * 4, align=4)


def add_neighbours(builder: Any, a: Any, b: Any | None = None) -> Any:
    """Sums of neighbouring lanes of an integer vector `a`, or of `a` and then `b`."""
    n = a.type.count * (1 if b is None else 2)
    other = ir.Constant(a.type, ir.Undefined) if b is None else b
    even, odd = (
        builder.shuffle_vector(a, other, ir.Constant(vector(I32, n // 2), list(range(first, n, 2))))
        for first in range(2)
    )
    return builder.add(even, odd)


@emitted(types.void(types.int64, types.int64, types.int64, types.int64, types.int64))
def quantize_256(builder: Any, x: Int, out: Int, scale: Int, sums_of_16: Int, sums_of_32: Int) -> None:
    """``out = min(127, round_half_even(x * inverse))`` as int8 for 256 float32, ``inverse = -127 / m``.

    `m` is the first value of largest magnitude. Also writes ``1 / inverse`` (0 for zeros, NaN where `x` has one) as
    float32 at `scale`, and the integers' sums over 16 and 32 columns as int16.

    Source: ggml's `quantize_row_q8_K_ref`, bit-exact for finite values.
    """
    zero = ir.Constant(F32, 0.0)
    largest = _first_largest(builder, x, 16)
    is_zero = builder.fcmp_ordered("==", largest, zero)
    inverse = builder.select(is_zero, zero, builder.fdiv(ir.Constant(F32, -127.0), largest))
    store(builder.select(is_zero, zero, builder.fdiv(ir.Constant(F32, 1.0), inverse)), scale, align=4)
    factor, magic = splat(builder, inverse, LANES), constant(F32, LANES, _ROUNDING)

    def sums(first: int, n: int) -> Any:
        """Quantise `n` vectors; their sums, ``16 / n`` of each."""
        if n > 1:
            return add_neighbours(builder, sums(first, n // 2), sums(first + n // 2, n // 2))
        scaled = builder.fmul(load(_FLOATS, x, first * _BYTES, align=4), factor)
        words = builder.bitcast(builder.fadd(scaled, magic), _WORDS)
        # ggml reads the mantissa alone; it differs where the inverse overflows, in blocks whose scale is 0.
        mantissa = builder.and_(words, constant(I32, LANES, 0x7FFFFF))
        whole = builder.sub(mantissa, constant(I32, LANES, 0x400000))
        whole = call(builder, "llvm.smin.v16i32", _WORDS, [whole, constant(I32, LANES, 127)])
        store(builder.trunc(whole, vector(I8, LANES)), out, first * LANES)
        return whole

    of_16 = sums(0, 16)
    store(builder.trunc(of_16, vector(I16, 16)), sums_of_16, align=2)
    store(builder.trunc(add_neighbours(builder, of_16), vector(I16, 8)), sums_of_32, align=2)


@emitted(types.int32(types.int64, types.float32, types.int64))
def quantize_32(builder: Any, x: Int, inverse: Any, out: Int) -> Any:
    """``out = round_half_even(x * inverse)`` as int8 for 32 float32; returns the sum of the integers."""
    magic = constant(F32, LANES, _ROUNDING)
    factor = splat(builder, inverse, LANES)
    total = constant(I32, LANES, 0)
    for i in range(2):
        scaled = builder.fmul(load(_FLOATS, x, i * _BYTES, align=4), factor)
        bits = builder.bitcast(builder.fadd(scaled, magic), _WORDS)
        integers = builder.sub(bits, builder.bitcast(magic, _WORDS))
        store(builder.trunc(integers, vector(I8, LANES)), out, i * LANES)
        total = builder.add(total, integers)
    return call(builder, "llvm.vector.reduce.add.v16i32", I32, [total])


@emitted(types.void(types.int64, types.int64, types.int64))
def swiglu_16(builder: Any, gate: Int, up: Int, out: Int) -> None:
    """``out = gate / (1 + e^-gate) * up`` for 16 float32 at the given addresses."""
    g = load(_FLOATS, gate, align=4)
    e = exp_vector(builder, builder.fneg(g))
    silu = builder.fdiv(g, builder.fadd(constant(F32, LANES, 1.0), e))
    store(builder.fmul(silu, load(_FLOATS, up, align=4)), out, align=4)


@emitted(types.float64(types.int64, types.int64))
def sum_of_squares(builder: Any, x: Int, n: Int) -> Any:
    """Sum of the float32 squares of `n` float32 at address `x`, in eight float64 lanes."""

    def square(type_: Any, address: Int) -> Any:
        value = load(type_, address, align=4)
        return builder.fmul(value, value)

    def add_eight(i: Int, sums: list[Any]) -> list[Any]:
        return [builder.fadd(sums[0], builder.fpext(square(vector(F32, 8), x + i * 32), vector(F64, 8)))]

    def add_one(i: Int, totals: list[Any]) -> list[Any]:
        return [builder.fadd(totals[0], builder.fpext(square(F32, x + (n_whole + i) * 4), F64))]

    n_whole = n & -8
    (sums,) = loop(n_whole >> 3, [constant(F64, 8, 0.0)], add_eight)
    (total,) = loop(n - n_whole, [sum_lanes(builder, sums)], add_one)
    return total


@emitted(types.void(types.int64, types.int64, types.float32, types.int64, types.int64))
def softmax_block(builder: Any, scores: Int, n_valid: Int, scale: Any, state: Int, factor: Int) -> None:
    """Turn 32 raw scores into weights relative to the running maximum; positions >= n_valid weigh 0.

    Args:
        scores: address of float32 (32,), scores in, weights out.
        n_valid: causal limit within the block; 0 changes nothing.
        scale: float32 score factor.
        state: address of float32 (2,), running maximum and sum.
        factor: address of the float32 that earlier sums and outputs must be multiplied with.
    """
    limit = splat(builder, builder.trunc(n_valid.value, I32), LANES)
    lowest = constant(F32, LANES, float("-inf"))
    halves = []
    for i in range(2):
        raw = load(_FLOATS, scores, i * _BYTES, align=4)
        scaled = builder.fmul(raw, splat(builder, scale, LANES))
        lanes = ir.Constant(_WORDS, list(range(i * LANES, (i + 1) * LANES)))
        halves.append(builder.select(builder.icmp_signed("<", lanes, limit), scaled, lowest))
    before = load(F32, state, align=4)
    highest = _larger(builder, max_lanes(builder, _larger(builder, *halves)), before)
    shift = splat(builder, highest, LANES)
    weights = [exp_vector(builder, builder.fsub(half, shift)) for half in halves]
    for i, value in enumerate(weights):
        store(value, scores, i * _BYTES, align=4)
    change = splat(builder, builder.fsub(before, highest), 4)
    rescale = builder.extract_element(exp_vector(builder, change), ir.Constant(I32, 0))
    total = sum_lanes(builder, builder.fadd(*weights))
    old = load(F32, state, 4, align=4)
    store(rescale, factor, align=4)
    store(highest, state, align=4)
    store(builder.fadd(builder.fmul(old, rescale), total), state, 4, align=4)


@emitted(types.float32(types.float32))
def exp_float32(builder: Any, x: Any) -> Any:
    """`exp_vector` of one float32."""
    return builder.extract_element(exp_vector(builder, splat(builder, x, 4)), ir.Constant(I32, 0))
