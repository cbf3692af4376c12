"""Re-tiling of Q8_0 rows as they lie in the file into the micro-kernel's 16-row tiles (`q8_dot`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types

from llorch.kernels.intrinsics import (
    I8,
    I16,
    I32,
    I64,
    as_uint16,
    constant,
    intrinsic,
    load,
    loop,
    outlined,
    prefetch,
    store,
    vector,
)
from llorch.kernels.jit import entry_point, kernel
from llorch.kernels.linear.q8_dot import (
    BLOCK,
    QUADS,
    QUANT_BYTES,
    SCALE_BYTES,
    TILE_BIAS,
    TILE_ROWS,
    add_bias,
)

FILE_BLOCK_BYTES = 2 + BLOCK
_EXPONENT = 0x7C00


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


def emit_tile_block(builder: Any, rows: list[Any], ahead: Any) -> tuple[list[Any], Any]:
    """Load one block of the 16 rows at the addresses `rows` and turn it round.

    Meanwhile the 544 bytes at `ahead` are fetched into cache: loading waits for memory and multiplying does not,
    so the next tile travels while this one is worked on.

    Returns:
        Eight vectors of 16 dwords (4 columns of every row, int8), and the 16 float16 scales as int16.
    """
    for offset in range(0, TILE_ROWS * FILE_BLOCK_BYTES + 63, 64):
        prefetch(builder, builder.add(ahead, ir.Constant(I64, offset)))
    scales = ir.Constant(vector(I16, TILE_ROWS), ir.Undefined)
    for i, row in enumerate(rows):
        scales = builder.insert_element(scales, load(builder, I16, row), ir.Constant(I32, i))
    dwords = [load(builder, vector(I32, 8), row, 2) for row in rows]
    upper, lower = _transpose8(builder, dwords[:8]), _transpose8(builder, dwords[8:])
    both = ir.Constant(vector(I32, 16), list(range(16)))
    quads = [builder.shuffle_vector(upper[k], lower[k], both) for k in range(QUADS)]
    return quads, scales


def emit_row_addresses(builder: Any, source: Any, row_bytes: Any, block: Any, last: Any = None) -> list[Any]:
    """Addresses of block number `block` in 16 rows; rows past number `last`, if given, repeat that one."""
    at = builder.add(source, builder.mul(block, ir.Constant(I64, FILE_BLOCK_BYTES)))
    rows = [ir.Constant(I64, row) for row in range(TILE_ROWS)]
    if last is not None:
        rows = [builder.select(builder.icmp_signed("<", row, last), row, last) for row in rows]
    return [builder.add(at, builder.mul(row_bytes, row)) for row in rows]


def _emit_pack(builder: Any, args: Any, is_whole: bool) -> Any:
    source, row_bytes, n_rows, n_blocks, quants, scales = args
    last = None if is_whole else builder.sub(n_rows, ir.Constant(I64, 1))
    ahead = builder.add(source, builder.mul(row_bytes, ir.Constant(I64, TILE_ROWS)))

    def body(block: Any, found: list[Any]) -> list[Any]:
        next_tile = builder.add(ahead, builder.mul(block, ir.Constant(I64, TILE_ROWS * FILE_BLOCK_BYTES)))
        rows = emit_row_addresses(builder, source, row_bytes, block, last)
        quads, halves = emit_tile_block(builder, rows, next_tile)
        quants_at = builder.add(quants, builder.mul(block, ir.Constant(I64, QUANT_BYTES)))
        for k, quad in enumerate(quads):
            if TILE_BIAS:
                quad = add_bias(builder, quad)
            store(builder, builder.bitcast(quad, vector(I8, 64)), quants_at, k * 64, align=64)
        scales_at = builder.add(scales, builder.mul(block, ir.Constant(I64, SCALE_BYTES)))
        store(builder, halves, scales_at, align=32)
        exponent = builder.and_(halves, constant(I16, TILE_ROWS, _EXPONENT))
        is_bad = builder.icmp_unsigned("==", exponent, constant(I16, TILE_ROWS, _EXPONENT))
        return [builder.or_(found[0], builder.zext(builder.bitcast(is_bad, I16), I64))]

    return loop(builder, n_blocks, [ir.Constant(I64, 0)], body)[0]


def _make_pack(is_whole: bool) -> Any:
    @intrinsic
    def pack(typingctx, source, row_bytes, n_rows, n_blocks, quants, scales):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            name = "llorch_q8_pack" if is_whole else "llorch_q8_pack_some"
            return outlined(builder, name, args, lambda inner, a: _emit_pack(inner, a, is_whole), I64)

        return types.int64(*[types.int64] * 6), codegen

    return pack


_pack_whole, _pack_some = _make_pack(True), _make_pack(False)


@kernel
def pack_tile(source: int, row_bytes: int, n_rows: int, n_blocks: int, tile: int) -> int:
    """Pack up to 16 rows at `source` into `tile`; returns non-zero if any block scale is NaN or infinite.

    Past `n_rows` the last row is repeated.
    """
    scales = tile + n_blocks * QUANT_BYTES
    if n_rows == TILE_ROWS:
        return _pack_whole(source, row_bytes, n_rows, n_blocks, tile, scales)
    return _pack_some(source, row_bytes, n_rows, n_blocks, tile, scales)


@entry_point("int64(int64, int64, int64, int64, int64, int64, int64)")
def pack_tiles(source, n_in, n_out, tiles, tile_stride, first, last):
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


@entry_point("int64(int64, int64)")
def scan_scales(source, n_blocks):
    """Non-zero if any of `n_blocks` Q8_0 blocks at `source` has a NaN or infinite scale."""
    bad = 0
    for block in range(n_blocks):
        scale = carray(as_uint16(source + block * FILE_BLOCK_BYTES), 1)[0]
        bad |= int((scale & _EXPONENT) == _EXPONENT)
    return bad
