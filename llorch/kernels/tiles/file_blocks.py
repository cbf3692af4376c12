"""What the bytes of the legacy formats' blocks mean, for 16 rows or one at a time.

Source: the block structures of ggml-common.h; NumPy's words for them are in `llorch.quant.codecs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llorch.kernels.emit.values import I32, Int, constant
from llorch.kernels.tiles.gather import gather_dwords, gather_halves
from llorch.kernels.tiles.planes import byte_mask, shifted

Rows = Sequence[Int]


@dataclass(frozen=True, slots=True)
class FileBlock:
    """A block as it lies in a file; each function gets the builder and the addresses of one block in each row.

    Attributes:
        n_bytes: of a block.
        units: yields the quads of each unit of 32 columns in order: 8 vectors of int32 (n_rows), q in every byte.
        halves: the float16 scales, `d` and then `dmin` where there is one, as vectors of int16.
        scales: the integer scales of the sub-blocks and then their minimums, as vectors of int8.
    """

    n_bytes: int
    units: Callable[[Any, Rows], Iterator[list[Any]]]
    halves: Callable[[Any, Rows], list[Any]]
    scales: Callable[[Any, Rows], list[Any]] = lambda builder, rows: []


def nibbles(builder: Any, dwords: Sequence[Any], upper: int) -> list[Any]:
    """The lower (0) or upper (1) four bits of every byte."""
    return [byte_mask(builder, shifted(builder, value, -4 * upper), 15) for value in dwords]


def _fifth_bits(builder: Any, bits: Any) -> list[Any]:
    """Quads with bit 4 set where the bit of a column is set in a row's int32; byte `j` of quad k is column 4 k + j."""
    result = []
    for quad in range(8):
        four = builder.and_(shifted(builder, bits, -4 * quad), constant(I32, bits.type.count, 15))
        spread = builder.mul(four, constant(I32, bits.type.count, 0x204081))  # bit j to bit 8 j
        result.append(shifted(builder, byte_mask(builder, spread, 1), 4))
    return result


def legacy_block(quants_at: int, *, bits: int) -> FileBlock:
    """A block of 32: float16 scales first, then (5 bits) an int32 of fifth bits, then what is at `quants_at`."""
    n_halves = (quants_at - (4 if bits == 5 else 0)) // 2

    def units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
        if bits == 8:
            yield gather_dwords(builder, rows, quants_at, 8)
            return
        dwords = gather_dwords(builder, rows, quants_at, 4)
        quads = nibbles(builder, dwords, 0) + nibbles(builder, dwords, 1)
        if bits == 5:
            fifth = _fifth_bits(builder, gather_dwords(builder, rows, quants_at - 4, 4)[0])
            quads = [builder.or_(low, high) for low, high in zip(quads, fifth, strict=True)]
        yield quads

    def halves(builder: Any, rows: Rows) -> list[Any]:
        return [gather_halves(builder, rows, 2 * i) for i in range(n_halves)]

    return FileBlock(quants_at + (32 if bits == 8 else 16), units, halves)


def _plain_units(builder: Any, rows: Rows) -> Iterator[list[Any]]:
    yield gather_dwords(builder, rows, 0, 8)


PLAIN_BLOCK = FileBlock(32, _plain_units, lambda builder, rows: [])
"""32 int8 of a row, and nothing beside them."""
