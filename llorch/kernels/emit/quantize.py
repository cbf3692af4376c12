"""Activations to int8 blocks, whole vectors of blocks at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.halves import float_to_half, half_to_float
from llorch.kernels.emit.transpose import fold_lanes
from llorch.kernels.emit.values import (
    F32,
    I8,
    I16,
    I32,
    I64,
    Int,
    call,
    constant,
    load,
    shuffle,
    splat,
    store,
    vector,
)
from llorch.kernels.emit.vectors import ROUNDING, add_neighbours
from llorch.kernels.layout import FLOAT_LANES as LANES

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)
_BYTES = LANES * 4
_ROUNDING_BITS = 0x4B400000
_BIAS = paths.chosen().bias
_HAS_PAIRS = paths.chosen().dot == "avx2"
"""Whether starts of 16 columns are two int16: of columns 0 and 1 of every 4, and of 2 and 3."""


def _magnitude(builder: Any, x: Int, i: int) -> Any:
    """Vector number `i` at address `x` without its signs, as integers."""
    return builder.and_(load(_WORDS, x, i * _BYTES, align=4), constant(I32, LANES, 0x7FFFFFFF))


def _largest_word(builder: Any, words: list[Any]) -> Any:
    largest = words[0]
    for other in words[1:]:
        largest = _largest_of(builder, largest, other)
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


@emitted(types.void(*[types.int64] * 8))
def quantize_256(
    builder: Any,
    x: Int,
    out: Int,
    scale: Int,
    sums_of_16: Int,
    sums_of_32: Int,
    at_4: Int,
    at_32: Int,
    at_bias: Int,
) -> None:
    """``out = min(127, round_half_even(x * inverse))`` as int8 for 256 float32, ``inverse = -127 / m``.

    `m` is the first value of largest magnitude. Also writes ``1 / inverse`` (0 for zeros, NaN where `x` has one) as
    float32 at `scale`, and the integers' sums over 16 and 32 columns: as int16, and times -4 and -32 (of 16) and minus
    the path's bias (of 32) as int32.

    Source: ggml's `quantize_row_q8_K_ref`, bit-exact for finite values.
    """
    zero = ir.Constant(F32, 0.0)
    largest = _first_largest(builder, x, 16)
    is_zero = builder.fcmp_ordered("==", largest, zero)
    inverse = builder.select(is_zero, zero, builder.fdiv(ir.Constant(F32, -127.0), largest))
    store(builder.select(is_zero, zero, builder.fdiv(ir.Constant(F32, 1.0), inverse)), scale, align=4)
    factor, magic = splat(builder, inverse, LANES), constant(F32, LANES, ROUNDING)

    def quantize(i: int) -> Any:
        scaled = builder.fmul(load(_FLOATS, x, i * _BYTES, align=4), factor)
        words = builder.bitcast(builder.fadd(scaled, magic), _WORDS)
        # ggml reads the mantissa alone; it differs where the inverse overflows, in blocks whose scale is 0.
        mantissa = builder.and_(words, constant(I32, LANES, 0x7FFFFF))
        whole = builder.sub(mantissa, constant(I32, LANES, 0x400000))
        whole = call(builder, "llvm.smin.v16i32", _WORDS, [whole, constant(I32, LANES, 127)])
        store(builder.trunc(whole, vector(I8, LANES)), out, i * LANES)
        return whole

    of_16, pairs = _sums_of_16(builder, [quantize(i) for i in range(16)])
    of_32 = add_neighbours(builder, of_16)
    store(builder.trunc(of_16, vector(I16, 16)), sums_of_16, align=2)
    store(builder.trunc(of_32, vector(I16, 8)), sums_of_32, align=2)
    store(builder.mul(of_32, constant(I32, 8, -_BIAS)), at_bias, align=4)
    for factor, address in ((4, at_4), (32, at_32)):
        starts = builder.mul(pairs, constant(pairs.type.element, pairs.type.count, -factor))
        store(starts, address, align=4)


def _sums_of_16(builder: Any, words: list[Any]) -> tuple[Any, Any]:
    """int32 sums of the lanes of each of 16 vectors, and these or pairs of int16 (`_HAS_PAIRS`)."""
    if not _HAS_PAIRS:
        return (fold_lanes(builder, words, builder.add),) * 2
    # Lanes 2 and 3 of every 4 are added up in the upper halves, where they lose what negative lower halves borrow.
    up, down = constant(I32, LANES, 16), ir.Constant(_WORDS, [16, 16, 0, 0] * (LANES // 4))
    both = fold_lanes(builder, [builder.ashr(builder.shl(w, up), down) for w in words], builder.add)
    first = builder.sext(builder.trunc(both, vector(I16, LANES)), _WORDS)
    upper = builder.sub(both, first)
    second = builder.ashr(upper, up)
    lower = builder.and_(first, constant(I32, LANES, 0xFFFF))
    return builder.add(first, second), builder.bitcast(builder.or_(lower, upper), vector(I16, 2 * LANES))


def _quantize_q8_0(builder: Any, x: Int, n_blocks: int, out: list[Int]) -> None:
    """As `activations.q8_0.quantize_row_q8_0`, for 1, 4 or 16 blocks of 32.

    A block at a time took 34 cycles on Zen 4, most of them for its largest magnitude and its sum across the lanes of a
    vector and for two divisions; 16 at a time take 15 a block.
    """
    quants, *of_blocks = out
    words = [[_magnitude(builder, x, 2 * block + i) for i in range(2)] for block in range(n_blocks)]
    larger = [_largest_of(builder, *pair) for pair in words]
    # Magnitudes are compared as integers, where NaN is the largest: a float comparison ignores NaN, so the maximum
    # would hide it.
    if n_blocks == 1:
        largest = splat(builder, call(builder, "llvm.vector.reduce.smax.v16i32", I32, larger), 1)
    else:
        largest = fold_lanes(builder, larger, lambda a, b: _largest_of(builder, a, b))
    amax = builder.bitcast(largest, vector(F32, n_blocks))
    full, zero = constant(F32, n_blocks, 127.0), constant(F32, n_blocks, 0.0)
    inverse = builder.select(builder.fcmp_unordered("!=", amax, zero), builder.fdiv(full, amax), zero)
    sums = []
    for block in range(n_blocks):
        factor = shuffle(builder, inverse, inverse, [block] * LANES)
        halves = []
        for i in range(2):
            at = 2 * block + i
            scaled = builder.fmul(load(_FLOATS, x, at * _BYTES, align=4), factor)
            halves.append(builder.bitcast(builder.fadd(scaled, constant(F32, LANES, ROUNDING)), _WORDS))
            # The integer is what the bits are above those of the rounding number, whose lowest byte is 0.
            store(builder.trunc(halves[i], vector(I8, LANES)), quants, at * LANES)
        sums.append(builder.add(*halves))
    if n_blocks == 1:
        total = splat(builder, call(builder, "llvm.vector.reduce.add.v16i32", I32, sums), 1)
    else:
        total = fold_lanes(builder, sums, builder.add)
    total = builder.sub(total, constant(I32, n_blocks, (32 * _ROUNDING_BITS) % (1 << 32)))
    _store_of_blocks(builder, builder.fdiv(amax, full), total, of_blocks)


def _largest_of(builder: Any, a: Any, b: Any) -> Any:
    return call(builder, f"llvm.smax.v{a.type.count}i32", a.type, [a, b])


def _store_of_blocks(builder: Any, scale: Any, total: Any, out: list[Int]) -> None:
    """What there is once for each block: scale, sums times minus the bias, 8 and 16, and the weighted sum."""
    n, (d, s, s8, s16, weighted) = total.type.count, out
    rounded = [
        half_to_float(builder, float_to_half(builder, value))
        for value in (scale, builder.fmul(scale, builder.sitofp(total, scale.type)))
    ]
    for value, address in zip(rounded, (d, weighted), strict=True):
        store(value, address, align=4)
    for factor, address in ((_BIAS, s), (8, s8), (16, s16)):
        store(builder.mul(total, constant(I32, n, -factor)), address, align=4)


def _make(n_blocks: int) -> Any:
    @emitted(types.void(*[types.int64] * 7))
    def quantize(builder: Any, x: Int, quants: Int, d: Int, s: Int, s8: Int, s16: Int, weighted: Int) -> None:
        """`_quantize_q8_0`: addresses of the first block's."""
        _quantize_q8_0(builder, x, n_blocks, [quants, d, s, s8, s16, weighted])

    return quantize


quantize_block, quantize_4_blocks, quantize_16_blocks = (_make(n_blocks) for n_blocks in (1, 4, 16))
