"""The rotation of neighbouring components, and keys and values on their way into the cache, in vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.halves import float_to_half
from llorch.kernels.emit.transpose import transpose
from llorch.kernels.emit.values import F32, I32, Int, fma, load, loop, store, vector
from llorch.kernels.layout import FLOAT_LANES as LANES

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)
_BYTES = LANES * 4


def _shuffled(builder: Any, x: Any, mask: list[int]) -> Any:
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), ir.Constant(_WORDS, mask))


@emitted(types.void(*[types.int64] * 5))
def rotate_heads(builder: Any, x: Int, n_head: Int, head_bytes: Int, n_vectors: Int, table: Int) -> None:
    """Rotate neighbours of the first `n_vectors` vectors of 16 components of every head: ``x0' = x0 cos - x1 sin``,
    ``x1' = x0 sin + x1 cos``.

    One rounding less than written, as compilers make it of llama.cpp's source: ``fma(x0, cos, -(x1 * sin))``.

    Args:
        x: address of float32 (n_head, head_bytes / 4).
        table: address of float32 (n_vectors, 8, 2), cosine and sine.
    """
    even, odd = ([i // 2 * 2 + first for i in range(LANES)] for first in range(2))
    neighbour = [i ^ 1 for i in range(LANES)]
    signs = ir.Constant(_WORDS, [0x80000000 if i % 2 == 0 else 0 for i in range(LANES)])

    def rotate_part(i: Int, nothing: list[Any]) -> list[Any]:
        turn = load(_FLOATS, table + i * _BYTES, align=4)
        swapped = builder.bitcast(_shuffled(builder, turn, neighbour), _WORDS)
        across = builder.bitcast(builder.xor(swapped, signs), _FLOATS)  # -sin, cos

        def rotate_head(head: Int, nothing: list[Any]) -> list[Any]:
            at = x + i * _BYTES + head * head_bytes
            value = load(_FLOATS, at, align=4)
            other = builder.fmul(_shuffled(builder, value, odd), across)
            store(fma(builder, _shuffled(builder, value, even), turn, other), at, align=4)
            return []

        loop(n_head, [], rotate_head)
        return []

    loop(n_vectors, [], rotate_part)


def make_cache_writers(item_bytes: int) -> tuple[Any, Any, Any]:
    """Functions for a cache of numbers of 4 bytes, float32, or of 2, float16.

    Returns:
        ``write_row(source, n_vectors, out)``: `n_vectors` vectors of 16 float32, one after the other.
        ``write_column(source, n_vectors, out, out_stride)``: so many, each `out_stride` after the one before.
        ``write_columns(source, source_stride, n_vectors, out, out_stride)``: so many of each of 16 rows, as columns:
        component i of the 16 rows goes to ``out + i * out_stride``.
    """

    def number(builder: Any, value: Any) -> Any:
        return value if item_bytes == 4 else float_to_half(builder, value)

    @emitted(types.void(*[types.int64] * 3))
    def write_row(builder: Any, source: Int, n_vectors: Int, out: Int) -> None:
        def write(i: Int, nothing: list[Any]) -> list[Any]:
            value = load(_FLOATS, source + i * _BYTES, align=4)
            store(number(builder, value), out + i * (LANES * item_bytes), align=item_bytes)
            return []

        loop(n_vectors, [], write)

    @emitted(types.void(*[types.int64] * 4))
    def write_column(builder: Any, source: Int, n_vectors: Int, out: Int, out_stride: Int) -> None:
        def write(i: Int, nothing: list[Any]) -> list[Any]:
            value = number(builder, load(_FLOATS, source + i * _BYTES, align=4))
            for lane in range(LANES):
                item = builder.extract_element(value, ir.Constant(I32, lane))
                store(item, out + (i * LANES + lane) * out_stride, align=item_bytes)
            return []

        loop(n_vectors, [], write)

    @emitted(types.void(*[types.int64] * 5))
    def write_columns(
        builder: Any, source: Int, source_stride: Int, n_vectors: Int, out: Int, out_stride: Int
    ) -> None:
        def write(i: Int, nothing: list[Any]) -> list[Any]:
            rows = [
                number(builder, load(_FLOATS, source + source_stride * row + i * _BYTES, align=4))
                for row in range(LANES)
            ]
            for column, value in enumerate(transpose(builder, rows)):
                store(value, out + (i * LANES + column) * out_stride, align=item_bytes)
            return []

        loop(n_vectors, [], write)

    return write_row, write_column, write_columns
