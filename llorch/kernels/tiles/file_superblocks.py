"""What the bytes of the K formats' and IQ4_XS's super-blocks of 256 columns mean, for 16 rows or one at a time.

Source: the block structures of ggml-common.h and `get_scale_min_k4` of ggml-quants.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llorch.kernels.emit.values import I8, I32, constant, vector
from llorch.kernels.tiles.file_blocks import FileBlock, Rows, nibbles
from llorch.kernels.tiles.gather import bytes_of, gather_dwords, half_of
from llorch.kernels.tiles.planes import byte_mask, shifted


def _merged(builder: Any, low: list[Any], high: list[Any], move: int, mask: int, left: int) -> list[Any]:
    """`low` with bits of `high`: its bytes moved right by `move`, masked, moved left by `left`."""
    parts = (
        shifted(builder, byte_mask(builder, shifted(builder, value, -move), mask), left) for value in high
    )
    return [builder.or_(a, b) for a, b in zip(low, parts, strict=True)]


def _less(builder: Any, values: list[Any], amount: int) -> list[Any]:
    return [builder.sub(value, constant(I8, value.type.count, amount)) for value in values]


def _first_halves(builder: Any, rows: Rows) -> list[Any]:
    """`d` and `dmin` of a block that begins with them."""
    first = gather_dwords(builder, rows, 0, 4)[0]
    return [half_of(builder, first, 0), half_of(builder, first, 1)]


def _six_bit_scales(builder: Any, rows: Rows) -> list[Any]:
    """8 scales and 8 minimums of 6 bits in the 12 bytes behind `d` and `dmin`."""
    _, a, b, c = gather_dwords(builder, rows, 0, 4)
    first = [byte_mask(builder, a, 63), byte_mask(builder, b, 63)]
    rest = [byte_mask(builder, c, 15), byte_mask(builder, shifted(builder, c, -4), 15)]
    rest = _merged(builder, rest, [a, b], 6, 3, 4)
    return [byte for value in (first[0], rest[0], first[1], rest[1]) for byte in bytes_of(builder, value)]


def _q4_k_units(builder: Any, rows: Rows, quants_at: int = 16, fifth_at: int = 0) -> Iterator[list[Any]]:
    fifth = gather_dwords(builder, rows, fifth_at, 8) if fifth_at else []
    for pair in range(4):
        dwords = gather_dwords(builder, rows, quants_at + 32 * pair, 8)
        for upper in range(2):
            quads = nibbles(builder, dwords, upper)
            yield _merged(builder, quads, fifth, 2 * pair + upper, 1, 4) if fifth else quads


def _q5_k_units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
    return _q4_k_units(builder, rows, quants_at=48, fifth_at=16)


def _q6_k_units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
    for half in range(2):
        high = gather_dwords(builder, rows, 128 + 32 * half, 8)
        for unit in range(4):
            low = gather_dwords(builder, rows, 64 * half + 32 * (unit % 2), 8)
            yield _merged(builder, nibbles(builder, low, unit // 2), high, 2 * unit, 3, 4)


def _two_bit_units(builder: Any, rows: Rows, quants_at: int) -> Iterator[list[Any]]:
    for half in range(2):
        dwords = gather_dwords(builder, rows, quants_at + 32 * half, 8)
        for unit in range(4):
            yield [byte_mask(builder, shifted(builder, value, -2 * unit), 3) for value in dwords]


def _q2_k_units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
    return _two_bit_units(builder, rows, 16)


def _q3_k_units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
    third = gather_dwords(builder, rows, 0, 8)
    for number, quads in enumerate(_two_bit_units(builder, rows, 32)):
        yield _merged(builder, quads, third, number, 1, 2)


def _q3_k_scales(builder: Any, rows: Rows) -> list[Any]:
    _, a, b, high = gather_dwords(builder, rows, 92, 4)  # the 12 bytes from 96 on
    low = [*nibbles(builder, [a, b], 0), *nibbles(builder, [a, b], 1)]
    scales = [_merged(builder, [value], [high], 2 * i, 3, 4)[0] for i, value in enumerate(low)]
    return _less(builder, [byte for value in scales for byte in bytes_of(builder, value)], 32)


def _sixteen_bytes(builder: Any, rows: Rows, offset: int) -> list[Any]:
    return [byte for value in gather_dwords(builder, rows, offset, 4) for byte in bytes_of(builder, value)]


def _iq4_xs_units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
    for pair in range(4):
        dwords = gather_dwords(builder, rows, 8 + 32 * pair, 8)
        for half in (dwords[:4], dwords[4:]):
            yield nibbles(builder, half, 0) + nibbles(builder, half, 1)


def _iq4_xs_scales(builder: Any, rows: Rows) -> list[Any]:
    first, low, *_ = gather_dwords(builder, rows, 0, 4)
    n, result = len(rows), []
    for i in range(8):
        four = builder.and_(shifted(builder, low, -4 * i), constant(I32, n, 15))
        two = builder.and_(shifted(builder, first, -16 - 2 * i), constant(I32, n, 3))
        value = builder.or_(four, shifted(builder, two, 4))
        result.append(builder.trunc(value, vector(I8, n)))
    return _less(builder, result, 32)


def _halves_at(offset: int, *numbers: int) -> Any:
    """Reads int16 of the last dword of the 16 bytes at `offset`."""

    def halves(builder: Any, rows: Rows) -> list[Any]:
        last = gather_dwords(builder, rows, offset, 4)[3]
        return [half_of(builder, last, number) for number in numbers]

    return halves


def _iq4_xs_halves(builder: Any, rows: Rows) -> list[Any]:
    return _first_halves(builder, rows)[:1]


Q2_K = FileBlock(
    84, _q2_k_units, _halves_at(68, 0, 1), lambda builder, rows: _sixteen_bytes(builder, rows, 0)
)
Q3_K = FileBlock(110, _q3_k_units, _halves_at(94, 1), _q3_k_scales)
Q4_K = FileBlock(144, _q4_k_units, _first_halves, _six_bit_scales)
Q5_K = FileBlock(176, _q5_k_units, _first_halves, _six_bit_scales)
Q6_K = FileBlock(
    210, _q6_k_units, _halves_at(194, 1), lambda builder, rows: _sixteen_bytes(builder, rows, 192)
)
IQ4_XS = FileBlock(136, _iq4_xs_units, _iq4_xs_halves, _iq4_xs_scales)
