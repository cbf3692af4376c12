"""Loading the same bytes of rows as they lie in a file: a vector for each dword, as wide as there are rows, 16 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from llorch.kernels.emit.values import I8, I16, I32, I64, Int, choose, constant, load, shuffle, vector
from llorch.kernels.layout import TILE_ROWS

EXPONENT = 0x7C00
"""Of a float16; all bits set means NaN or infinity."""


def row_addresses(
    source: Int, row_bytes: Int, last: Int | None = None, order: Int | None = None
) -> list[Int]:
    """Addresses of 16 rows; rows past number `last`, if given, repeat that one.

    With `order`, the address of int32 (16,), they are the stored rows with these numbers.
    """
    builder = source.builder
    numbers = [Int(builder, row) for row in range(TILE_ROWS)]
    if last is not None:
        numbers = [choose(row < last, row, last) for row in numbers]
    if order is not None:
        stored = [load(I32, order + row * 4, align=4) for row in numbers]
        numbers = [Int(builder, builder.zext(row, I64)) for row in stored]
    return [source + row_bytes * row for row in numbers]


def _transpose8(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose an 8x8 matrix of dwords held in 8 vectors."""
    pairs = []
    for i in range(0, 8, 2):
        pairs.append(shuffle(builder, rows[i], rows[i + 1], [0, 8, 1, 9, 4, 12, 5, 13]))
        pairs.append(shuffle(builder, rows[i], rows[i + 1], [2, 10, 3, 11, 6, 14, 7, 15]))
    fours = []
    for i in (0, 1, 4, 5):
        fours.append(shuffle(builder, pairs[i], pairs[i + 2], [0, 1, 8, 9, 4, 5, 12, 13]))
        fours.append(shuffle(builder, pairs[i], pairs[i + 2], [2, 3, 10, 11, 6, 7, 14, 15]))
    low = [shuffle(builder, fours[i], fours[i + 4], [0, 1, 2, 3, 8, 9, 10, 11]) for i in range(4)]
    high = [shuffle(builder, fours[i], fours[i + 4], [4, 5, 6, 7, 12, 13, 14, 15]) for i in range(4)]
    return low + high


def gather_dwords(builder: Any, rows: Sequence[Int], offset: int, n: int) -> list[Any]:
    """Vectors of int32 (n_rows): the 4 or 8 dwords that begin `offset` bytes after each address."""
    if len(rows) == 1:
        return [load(vector(I32, 1), rows[0], offset + 4 * k) for k in range(n)]
    loaded = [load(vector(I32, n), row, offset) for row in rows]
    if n == 4:
        loaded = [shuffle(builder, value, value, [0, 1, 2, 3, 0, 1, 2, 3]) for value in loaded]
    upper, lower = _transpose8(builder, loaded[:8]), _transpose8(builder, loaded[8:])
    return [shuffle(builder, upper[k], lower[k], range(TILE_ROWS)) for k in range(n)]


def gather_halves(builder: Any, rows: Sequence[Int], offset: int) -> Any:
    """A vector of int16 (n_rows): the 2 bytes `offset` after each address."""
    halves = ir.Constant(vector(I16, len(rows)), ir.Undefined)
    for i, row in enumerate(rows):
        halves = builder.insert_element(halves, load(I16, row, offset), ir.Constant(I32, i))
    return halves


def half_of(builder: Any, dwords: Any, number: int) -> Any:
    """The lower (0) or upper (1) int16 of each int32."""
    n = dwords.type.count
    return builder.trunc(builder.lshr(dwords, constant(I32, n, 16 * number)), vector(I16, n))


def bytes_of(builder: Any, dwords: Any) -> list[Any]:
    """The four bytes of each int32 as vectors of int8, lowest first."""
    n = dwords.type.count
    amounts = [constant(I32, n, 8 * i) for i in range(4)]
    return [builder.trunc(builder.lshr(dwords, amount), vector(I8, n)) for amount in amounts]
