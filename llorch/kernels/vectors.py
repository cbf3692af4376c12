"""Elementwise work on 16 float32 at a time, emitted as LLVM IR.

LLVM does not vectorise a running maximum or a polynomial behind comparisons by itself without assumptions about
NaN that the kernels may not make; here the vectors are spelled out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from llorch.kernels.intrinsics import (
    F32,
    F64,
    I8,
    I32,
    I64,
    call,
    constant,
    fma,
    intrinsic,
    load,
    loop,
    splat,
    store,
    sum_lanes,
    vector,
)

LANES = 16
_FLOATS = vector(F32, LANES)
_BYTES = LANES * 4


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
    magic = constant(F32, n, 12582912.0)
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


@intrinsic
def largest_magnitude(typingctx: Any, x: Any) -> Any:
    """max |x| of the 32 float32 at address `x`; NaN if there is one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # As integers, magnitudes keep their order and NaN is the largest: a comparison of floats would pass it
        # over, and the row would look healthy ever after.
        words = vector(I32, LANES)
        halves = [load(builder, words, args[0], i * _BYTES, align=4) for i in range(2)]
        absolute = [builder.and_(half, constant(I32, LANES, 0x7FFFFFFF)) for half in halves]
        largest = call(builder, "llvm.smax.v16i32", words, absolute)
        return builder.bitcast(call(builder, "llvm.vector.reduce.smax.v16i32", I32, [largest]), F32)

    return types.float32(types.int64), codegen


@intrinsic
def quantize_32(typingctx: Any, x: Any, inverse: Any, out: Any) -> Any:
    """``out = round_half_even(x * inverse)`` as int8 for 32 float32; returns the sum of the integers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = vector(I32, LANES)
        magic = constant(F32, LANES, 12582912.0)
        factor = splat(builder, args[1], LANES)
        total = constant(I32, LANES, 0)
        for i in range(2):
            scaled = builder.fmul(load(builder, _FLOATS, args[0], i * _BYTES, align=4), factor)
            # Adding 1.5 * 2^23 rounds half to even and leaves the integer in the low bits.
            bits = builder.bitcast(builder.fadd(scaled, magic), words)
            integers = builder.sub(bits, builder.bitcast(magic, words))
            store(builder, builder.trunc(integers, vector(I8, LANES)), args[2], i * LANES)
            total = builder.add(total, integers)
        return call(builder, "llvm.vector.reduce.add.v16i32", I32, [total])

    return types.int32(types.int64, types.float32, types.int64), codegen


@intrinsic
def swiglu_16(typingctx: Any, gate: Any, up: Any, out: Any) -> Any:
    """``out = gate / (1 + e^-gate) * up`` for 16 float32 at the given addresses."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = constant(F32, LANES, 1.0)
        g = load(builder, _FLOATS, args[0], align=4)
        e = exp_vector(builder, builder.fneg(g))
        silu = builder.fdiv(g, builder.fadd(one, e))
        store(builder, builder.fmul(silu, load(builder, _FLOATS, args[1], align=4)), args[2], align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def sum_of_squares(typingctx: Any, x: Any, n: Any) -> Any:
    """Sum of the float32 squares of `n` float32 at address `x`, in eight float64 lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, count = args
        wide = vector(F64, 8)

        def square(type_: Any, at: Any) -> Any:
            value = load(builder, type_, builder.add(address, builder.mul(at, ir.Constant(I64, 4))), align=4)
            return builder.fmul(value, value)

        n_whole = builder.and_(count, ir.Constant(I64, -8))
        groups = builder.lshr(n_whole, ir.Constant(I64, 3))

        def body(i: Any, sums: list[Any]) -> list[Any]:
            at = builder.mul(i, ir.Constant(I64, 8))
            return [builder.fadd(sums[0], builder.fpext(square(vector(F32, 8), at), wide))]

        (sums,) = loop(builder, groups, [constant(F64, 8, 0.0)], body)

        def last(i: Any, totals: list[Any]) -> list[Any]:
            return [builder.fadd(totals[0], builder.fpext(square(F32, builder.add(n_whole, i)), F64))]

        (total,) = loop(builder, builder.sub(count, n_whole), [sum_lanes(builder, sums)], last)
        return total

    return types.float64(types.int64, types.int64), codegen


@intrinsic
def softmax_block(typingctx: Any, scores: Any, n_valid: Any, scale: Any, state: Any, factor: Any) -> Any:
    """Turn 32 raw scores into weights relative to the running maximum; positions >= n_valid weigh 0.

    Arguments: address of float32 (32,), scores in, weights out; causal limit within the block (0 changes
    nothing); float32 score factor; address of float32 (2,), running maximum and sum; address of the float32
    that earlier sums and outputs must be multiplied with.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scores_, valid, scale_, state_, factor_ = args
        limit = splat(builder, builder.trunc(valid, I32), LANES)
        lowest = constant(F32, LANES, float("-inf"))
        halves = []
        for i in range(2):
            raw = load(builder, _FLOATS, scores_, i * _BYTES, align=4)
            scaled = builder.fmul(raw, splat(builder, scale_, LANES))
            lanes = ir.Constant(vector(I32, LANES), list(range(i * LANES, (i + 1) * LANES)))
            halves.append(builder.select(builder.icmp_signed("<", lanes, limit), scaled, lowest))
        before = load(builder, F32, state_, align=4)
        highest = _larger(builder, max_lanes(builder, _larger(builder, *halves)), before)
        shift = splat(builder, highest, LANES)
        weights = [exp_vector(builder, builder.fsub(half, shift)) for half in halves]
        for i, value in enumerate(weights):
            store(builder, value, scores_, i * _BYTES, align=4)
        change = splat(builder, builder.fsub(before, highest), 4)
        rescale = builder.extract_element(exp_vector(builder, change), ir.Constant(I32, 0))
        total = sum_lanes(builder, builder.fadd(*weights))
        old = load(builder, F32, state_, 4, align=4)
        store(builder, rescale, factor_, align=4)
        store(builder, highest, state_, align=4)
        store(builder, builder.fadd(builder.fmul(old, rescale), total), state_, 4, align=4)
        return context.get_dummy_value()

    signature = types.void(types.int64, types.int64, types.float32, types.int64, types.int64)
    return signature, codegen


@intrinsic
def exp_float32(typingctx: Any, x: Any) -> Any:
    """`exp_vector` of one float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lane = ir.Constant(I32, 0)
        return builder.extract_element(exp_vector(builder, splat(builder, args[0], 4)), lane)

    return types.float32(types.float32), codegen
