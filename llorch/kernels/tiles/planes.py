"""Bit planes: 8 quads of small integers in as few bytes as the file has, and back in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir

from llorch.kernels import paths
from llorch.kernels.emit.values import I8, I32, call, constant, vector
from llorch.kernels.tiles.layout import QUADS, TileScheme
from llorch.kernels.tiles.neon import DOTS, look_up_16


def byte_mask(builder: Any, value: Any, mask: int) -> Any:
    """The bits of `mask` in every byte of a vector of int32."""
    word = mask * 0x01010101
    return builder.and_(value, constant(I32, value.type.count, word - (word >> 31 << 32)))


def shifted(builder: Any, value: Any, left: int) -> Any:
    """A vector of int32, its bits moved to the left, or to the right if `left` is negative."""
    if left == 0:
        return value
    amount = constant(I32, value.type.count, abs(left))
    return builder.shl(value, amount) if left > 0 else builder.lshr(value, amount)


def join_planes(builder: Any, quads: Sequence[Any], planes: Sequence[int]) -> Iterator[Any]:
    """The vectors that store 8 quads, plane after plane; quads and results are vectors of int32."""
    if tuple(planes) == (8,):
        yield from quads
        return
    lowest = 0
    for bits in planes:
        per_vector = 8 // bits
        for first in range(0, QUADS, per_vector):
            value = None
            for place in range(per_vector):
                part = byte_mask(builder, quads[first + place], ((1 << bits) - 1) << lowest)
                part = shifted(builder, part, place * bits - lowest)
                value = part if value is None else builder.or_(value, part)
            yield value
        lowest += bits


def split_planes(builder: Any, read: Callable[[int], Any], planes: Sequence[int]) -> Iterator[Any]:
    """The 8 quads, as vectors of int32; ``read(i)`` loads vector number `i` of the planes."""
    if tuple(planes) == (8,):
        yield from (read(i) for i in range(QUADS))
        return
    loaded: dict[int, Any] = {}
    for quad in range(QUADS):
        value, lowest, first = None, 0, 0
        for bits in planes:
            at, place = divmod(quad, 8 // bits)
            if first + at not in loaded:
                loaded[first + at] = read(first + at)
            part = shifted(builder, loaded[first + at], lowest - place * bits)
            part = byte_mask(builder, part, ((1 << bits) - 1) << lowest)
            value = part if value is None else builder.or_(value, part)
            lowest += bits
            first += QUADS * bits // 8
        yield value


def look_up(builder: Any, scheme: TileScheme, quad: Any, bias: int = 0) -> Any:
    """The values of a codebook, `bias` added, for a vector of int32 of 4-bit numbers; other numbers as they are."""
    if not scheme.codebook:
        return quad
    n = quad.type.count * 4
    values = [(value + bias + 128) % 256 - 128 for value in scheme.codebook]
    numbers = builder.bitcast(quad, vector(I8, n))
    names = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b"}
    dot = paths.chosen().dot
    if n == 16 and dot in DOTS:
        table = ir.Constant(vector(I8, n), values)
        return builder.bitcast(look_up_16(builder, table, numbers), quad.type)
    if n in names and dot in ("vnni", "avx2"):
        table = ir.Constant(vector(I8, n), values * (n // 16))
        return builder.bitcast(call(builder, names[n], table.type, [table, numbers]), quad.type)
    found = constant(I8, n, values[0])
    for number, value in enumerate(values[1:], start=1):
        is_it = builder.icmp_unsigned("==", numbers, constant(I8, n, number))
        found = builder.select(is_it, constant(I8, n, value), found)
    return builder.bitcast(found, quad.type)


def add_bias(builder: Any, weights: Any) -> Any:
    """int8 weights plus 128, as uint8, in a vector of any integers."""
    element = weights.type.element.width
    flip = sum(0x80 << shift for shift in range(0, element, 8)) - (1 << element)
    return builder.xor(weights, constant(weights.type.element, weights.type.count, flip))
