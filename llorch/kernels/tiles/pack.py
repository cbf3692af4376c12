"""Re-tiling of Q8_0 rows as they lie in the file into tiles of 16 rows (`tiles.layout`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.scalars import as_uint16
from llorch.kernels.emit.values import (
    I8,
    I16,
    I32,
    I64,
    Int,
    choose,
    constant,
    load,
    loop,
    prefetch,
    store,
    vector,
)
from llorch.kernels.jit import kernel, unit
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.layout import BLOCK, FILE_BLOCK_BYTES, QUADS, QUANT_BYTES, SCALE_BYTES

_EXPONENT = 0x7C00
"""Of a float16; all bits set means NaN or infinity."""


def add_bias(builder: Any, weights: Any) -> Any:
    """int8 weights plus 128, as uint8, in a vector of any integers."""
    element = weights.type.element.width
    flip = sum(0x80 << shift for shift in range(0, element, 8)) - (1 << element)
    return builder.xor(weights, constant(weights.type.element, weights.type.count, flip))


def _transpose8(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose an 8x8 matrix of dwords held in 8 vectors."""

    def shuffle(a: Any, b: Any, mask: list[int]) -> Any:
        return builder.shuffle_vector(a, b, ir.Constant(vector(I32, 8), mask))

    pairs = []
    for i in range(0, 8, 2):
        pairs.append(shuffle(rows[i], rows[i + 1], [0, 8, 1, 9, 4, 12, 5, 13]))
        pairs.append(shuffle(rows[i], rows[i + 1], [2, 10, 3, 11, 6, 14, 7, 15]))
    fours = []
    for i in (0, 1, 4, 5):
        fours.append(shuffle(pairs[i], pairs[i + 2], [0, 1, 8, 9, 4, 5, 12, 13]))
        fours.append(shuffle(pairs[i], pairs[i + 2], [2, 3, 10, 11, 6, 7, 14, 15]))
    low = [shuffle(fours[i], fours[i + 4], [0, 1, 2, 3, 8, 9, 10, 11]) for i in range(4)]
    high = [shuffle(fours[i], fours[i + 4], [4, 5, 6, 7, 12, 13, 14, 15]) for i in range(4)]
    return low + high


def emit_tile_block(builder: Any, rows: list[Int], ahead: Int) -> tuple[list[Any], Any]:
    """Load one block of the 16 rows at the addresses `rows` and transpose it.

    Meanwhile the 544 bytes at `ahead` are fetched into cache: loading waits for memory and multiplying does not,
    so the next tile is loaded while this one is multiplied.

    Returns:
        Eight vectors of 16 dwords (4 columns of every row, int8), and the 16 float16 scales as int16.
    """
    for offset in range(0, TILE_ROWS * FILE_BLOCK_BYTES + 63, 64):
        prefetch(ahead + offset)
    scales = ir.Constant(vector(I16, TILE_ROWS), ir.Undefined)
    for i, row in enumerate(rows):
        scales = builder.insert_element(scales, load(I16, row), ir.Constant(I32, i))
    dwords = [load(vector(I32, 8), row, 2) for row in rows]
    upper, lower = _transpose8(builder, dwords[:8]), _transpose8(builder, dwords[8:])
    both = ir.Constant(vector(I32, 16), list(range(16)))
    quads = [builder.shuffle_vector(upper[k], lower[k], both) for k in range(QUADS)]
    return quads, scales


def row_addresses(source: Int, row_bytes: Int, block: Int, last: Int | None = None) -> list[Int]:
    """Addresses of block number `block` in 16 rows; rows past number `last`, if given, repeat that one."""
    at = source + block * FILE_BLOCK_BYTES
    numbers = [Int(source.builder, row) for row in range(TILE_ROWS)]
    if last is not None:
        numbers = [choose(row < last, row, last) for row in numbers]
    return [at + row_bytes * row for row in numbers]


def _make_pack(name: str, is_whole: bool) -> Any:
    def emit(
        builder: Any, source: Int, row_bytes: Int, n_rows: Int, n_blocks: Int, quants: Int, scales: Int
    ) -> Any:
        last = None if is_whole else n_rows - 1
        ahead = source + row_bytes * TILE_ROWS

        def body(block: Int, found: list[Any]) -> list[Any]:
            rows = row_addresses(source, row_bytes, block, last)
            quads, halves = emit_tile_block(builder, rows, ahead + block * (TILE_ROWS * FILE_BLOCK_BYTES))
            quants_at = quants + block * QUANT_BYTES
            for k, quad in enumerate(quads):
                if paths.chosen().tile_bias:
                    quad = add_bias(builder, quad)
                store(builder.bitcast(quad, vector(I8, 64)), quants_at, k * 64, align=64)
            store(halves, scales + block * SCALE_BYTES, align=32)
            exponent = builder.and_(halves, constant(I16, TILE_ROWS, _EXPONENT))
            is_bad = builder.icmp_unsigned("==", exponent, constant(I16, TILE_ROWS, _EXPONENT))
            return [builder.or_(found[0], builder.zext(builder.bitcast(is_bad, I16), I64))]

        return loop(n_blocks, [ir.Constant(I64, 0)], body)[0]

    @emitted(types.int64(*[types.int64] * 6))
    def pack(
        builder: Any, source: Int, row_bytes: Int, n_rows: Int, n_blocks: Int, quants: Int, scales: Int
    ) -> Any:
        """Pack a tile; non-zero if any block scale is NaN or infinite."""
        return outlined(name, [source, row_bytes, n_rows, n_blocks, quants, scales], emit, I64)

    return pack


_pack_whole, _pack_some = _make_pack("llorch_q8_pack", True), _make_pack("llorch_q8_pack_some", False)


@kernel
def pack_tile(source: int, row_bytes: int, n_rows: int, n_blocks: int, tile: int) -> int:
    """Pack up to 16 rows at `source` into `tile`; returns non-zero if any block scale is NaN or infinite.

    Past `n_rows` the last row is repeated.
    """
    scales = tile + n_blocks * QUANT_BYTES
    if n_rows == TILE_ROWS:
        return _pack_whole(source, row_bytes, n_rows, n_blocks, tile, scales)
    return _pack_some(source, row_bytes, n_rows, n_blocks, tile, scales)


@unit("re-tiling of Q8_0 weights", 7)
def pack_q8_0(source, n_in, n_out, tiles, tile_stride, first, last):
    """Pack tiles ``first <= i < last`` of a matrix; non-zero if any block scale is NaN or infinite.

    Args (int64; addresses unless said otherwise):
        source: Q8_0 rows (n_out, n_in) as in the file.
        tiles: all tiles of the matrix, `tile_stride` bytes apart.
    """
    n_blocks = n_in // BLOCK
    row_bytes = n_blocks * FILE_BLOCK_BYTES
    bad = 0
    for tile in range(first, last):
        row = tile * TILE_ROWS
        n_rows = min(TILE_ROWS, n_out - row)
        bad |= pack_tile(source + row * row_bytes, row_bytes, n_rows, n_blocks, tiles + tile * tile_stride)
    return bad


@unit("check of Q8_0 scales", 2)
def scan_q8_0(source, n_blocks):
    """Non-zero if any of `n_blocks` Q8_0 blocks at `source` has a NaN or infinite scale."""
    bad = 0
    for block in range(n_blocks):
        scale = as_uint16(source + block * FILE_BLOCK_BYTES)[0]
        bad |= int((scale & _EXPONENT) == _EXPONENT)
    return bad
