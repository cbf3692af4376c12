"""Re-tiling of rows as they lie in the file into tiles of 16 rows, and of tiles into whole bytes for many tokens."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.values import I16, I64, Int, constant, loop, prefetch_bytes, store, vector
from llorch.kernels.jit import Unit, kernel, unit
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.dot import unit_quads
from llorch.kernels.tiles.file_blocks import FileBlock
from llorch.kernels.tiles.gather import EXPONENT, row_addresses
from llorch.kernels.tiles.integers import BYTES, IS_PAIRED, LANES, SUMS
from llorch.kernels.tiles.layout import HALVES_BYTES, QUAD_BYTES, UNIT, TileScheme
from llorch.kernels.tiles.neon import paired
from llorch.kernels.tiles.planes import add_bias, join_planes, look_up


def _emit_block(
    builder: Any, scheme: TileScheme, file_block: FileBlock, rows: list[Int], quants: Int, scales: Int
) -> Any:
    """Store one block of 16 rows; returns a vector of i1, set where a float16 scale is not finite."""
    path, planes = paths.chosen(), scheme.stored_planes
    at = 0
    for quads in file_block.units(builder, rows):
        if planes != scheme.planes:
            quads = [look_up(builder, scheme, quad, path.tile_bias) for quad in quads]
        elif planes == (8,) and path.tile_bias:
            quads = [add_bias(builder, quad) for quad in quads]
        if IS_PAIRED:
            quads = paired(builder, quads)
        for value in join_planes(builder, quads, planes):
            store(value, quants, at, align=64)
            at += QUAD_BYTES
    for i, value in enumerate(file_block.scales(builder, rows)):
        store(value, scales, i * TILE_ROWS, align=16)
    is_bad = ir.Constant(vector(ir.IntType(1), TILE_ROWS), [0] * TILE_ROWS)
    exponent = constant(I16, TILE_ROWS, EXPONENT)
    for i, halves in enumerate(file_block.halves(builder, rows)):
        store(halves, scales, scheme.d_at + i * HALVES_BYTES, align=16)
        is_bad = builder.or_(is_bad, builder.icmp_unsigned("==", builder.and_(halves, exponent), exponent))
    return is_bad


def make_packing(scheme: TileScheme, file_block: FileBlock, title: str) -> tuple[Any, Unit]:
    """The kernel and the unit that pack a format.

    Returns:
        ``pack_tile(source, row_bytes, n_rows, n_blocks, tile, order)``, which packs up to 16 rows at `source`; past
        `n_rows` the last row is repeated. Non-zero if a float16 scale is NaN or infinite. `order`: where weights are
        plain, the address of the numbers, int32, of the rows to take.
        ``pack(source, n_in, n_out, tiles, tile_stride, first, last, row_order)``, which packs tiles
        ``first <= i < last`` of a matrix; all arguments are int64, addresses and counts.
    """
    block_bytes, file_bytes = scheme.block_bytes, file_block.n_bytes

    def emit(
        builder: Any, source: Int, row_bytes: Int, n_rows: Int, n_blocks: Int, tile: Int, order: Int
    ) -> Any:
        rows = row_addresses(source, row_bytes, n_rows - 1, order if scheme.is_plain else None)
        following = (rows[0] if scheme.is_plain else source) + row_bytes * TILE_ROWS
        scales = tile + n_blocks * block_bytes

        def body(block: Int, found: list[Any]) -> list[Any]:
            prefetch_bytes(following + block * (TILE_ROWS * file_bytes), TILE_ROWS * file_bytes + 63)
            at = [row + block * file_bytes for row in rows]
            to, to_scales = tile + block * block_bytes, scales + block * scheme.scale_bytes
            is_bad = _emit_block(builder, scheme, file_block, at, to, to_scales)
            return [builder.or_(found[0], builder.zext(builder.bitcast(is_bad, I16), I64))]

        return loop(n_blocks, [ir.Constant(I64, 0)], body)[0]

    @emitted(types.int64(*[types.int64] * 6))
    def emit_tile(
        builder: Any, source: Int, row_bytes: Int, n_rows: Int, n_blocks: Int, tile: Int, order: Int
    ) -> Any:
        args = [source, row_bytes, n_rows, n_blocks, tile, order]
        return outlined(f"llorch_{scheme.name}_pack", args, emit, I64)

    @kernel
    def pack_tile(source, row_bytes, n_rows, n_blocks, tile, order):
        return emit_tile(source, row_bytes, min(n_rows, TILE_ROWS), n_blocks, tile, order)

    block, is_plain = scheme.block, scheme.is_plain

    @unit(f"re-tiling of {title} weights", 8, name=f"pack_{scheme.name}")
    def pack(source, n_in, n_out, tiles, tile_stride, first, last, row_order):
        n_blocks = n_in // block
        row_bytes = n_blocks * file_bytes
        bad = 0
        for tile in range(first, last):
            row = tile * TILE_ROWS
            rows = source if is_plain else source + row * row_bytes
            to = tiles + tile * tile_stride
            bad |= pack_tile(rows, row_bytes, n_out - row, n_blocks, to, row_order + row * 4)
        return bad

    return pack_tile, pack


def make_expand(scheme: TileScheme, offset: int) -> Any:
    """A function for kernels, ``expand(quants, n_units, out)``: a tile's units as whole bytes, `offset` taken off."""
    planes, unit_bytes = scheme.stored_planes, scheme.unit_bytes

    def emit(builder: Any, quants: Int, n_units: Int, out: Int) -> None:
        def body(number: Int, _: list[Any]) -> list[Any]:
            for part in range(TILE_ROWS // LANES):
                at = quants + number * unit_bytes + part * LANES * 4
                for i, quad in enumerate(unit_quads(builder, scheme, planes, at, is_stored=True)):
                    if offset:
                        quad = builder.sub(quad, constant(BYTES.element, BYTES.count, offset))
                    to = out + number * (UNIT // 4 * QUAD_BYTES)
                    store(builder.bitcast(quad, SUMS), to, i * QUAD_BYTES + part * LANES * 4, align=LANES * 4)
            return []

        loop(n_units, [], body)

    @emitted()
    def expand(builder: Any, quants: Int, n_units: Int, out: Int) -> None:
        outlined(f"llorch_{scheme.name}_expand", [quants, n_units, out], emit)

    return expand
