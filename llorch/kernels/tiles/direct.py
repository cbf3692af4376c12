"""Products of one or two tokens with rows where they lie in the file: transposed in registers, never stored.

The same block sums in the same order as `tiles.dot`, so the same bits; with few tokens, packing a tile first would
write and read everything once more. For blocks of 32 without sub-blocks.
"""

from __future__ import annotations

from typing import Any

from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import (
    F32,
    I32,
    Int,
    Strided,
    constant,
    fma,
    load,
    loop,
    prefetch_bytes,
    shuffle,
    splat,
    store_or_add,
    vector,
)
from llorch.kernels.jit import kernel
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.file_blocks import FileBlock
from llorch.kernels.tiles.gather import row_addresses
from llorch.kernels.tiles.integers import BYTES, LANES, PATH, add_quads
from llorch.kernels.tiles.layout import QUADS, UNIT, TileScheme
from llorch.kernels.tiles.plain_rows import scaled_rows
from llorch.kernels.tiles.planes import add_bias, look_up

MOST_TOKENS = 2
"""Tokens the kernel can take at a time."""

_PARTS = range(TILE_ROWS // LANES)
"""Vectors that hold a column of a tile."""


def _lanes_of(builder: Any, value: Any, part: int) -> Any:
    """Lanes ``part * LANES`` and up of a 16-lane vector."""
    if LANES == TILE_ROWS:
        return value
    return shuffle(builder, value, value, range(part * LANES, (part + 1) * LANES))


def _columns(builder: Any, scheme: TileScheme, quads: list[Any], part: int) -> list[list[Any]]:
    """The bytes of a block for the rows of one part, as `add_quads` takes them."""
    columns = []
    for quad in quads:
        value = look_up(builder, scheme, _lanes_of(builder, quad, part), PATH.bias)
        is_whole = scheme.planes == (8,) and PATH.bias
        columns.append([builder.bitcast(add_bias(builder, value) if is_whole else value, BYTES)])
    return columns


def _part_sums(builder: Any, scheme: TileScheme, quads: list[Any], part: int, start: Any, x: Int) -> Any:
    """int32 sums of one block for the rows of one part; `x` is the token's address in the block.

    Two chains, since one dot product waits for the one before it; integers do not mind the order.
    """
    columns = _columns(builder, scheme, quads, part)
    half = QUADS // 2
    zero, x_half = constant(I32, LANES, 0), x + half * 4 * scheme.column_bytes
    first = add_quads(builder, scheme, [start], columns[:half], [x], None, is_paired=False)
    second = add_quads(builder, scheme, [zero], columns[half:], [x_half], None, is_paired=False)
    return builder.add(first[0], second[0])


def _emit(
    builder: Any, scheme: TileScheme, file_block: FileBlock, n_tokens: int, args: tuple[Int, ...]
) -> None:
    source, row_bytes, n_blocks, order, factors, q, q_stride, d, d_stride, s, s_stride, *y = args
    out, out_stride, accumulate = y
    q_rows, d_rows, s_rows = Strided(q, q_stride), Strided(d, d_stride), Strided(s, s_stride)
    block_bytes = TILE_ROWS * file_block.n_bytes
    rows = row_addresses(source, row_bytes, order=order if scheme.is_plain else None)
    ahead = (rows[0] if scheme.is_plain else source) + row_bytes * TILE_ROWS

    def float_of(halves: Any, part: int) -> Any:
        return half_to_float(builder, _lanes_of(builder, halves, part))

    def start_of(t: int, block: Int) -> Any:
        if not scheme.taken_off:
            return constant(I32, LANES, 0)
        return splat(builder, load(I32, s_rows[t] + block * 4, align=4), LANES)

    def body(block: Int, acc: list[Any]) -> list[Any]:
        prefetch_bytes(ahead + block * block_bytes, block_bytes + 63)
        at = [row + block * file_block.n_bytes for row in rows]
        (quads,) = file_block.units(builder, at)
        if scheme.is_plain:
            x_at = [q_rows[t] + block * (UNIT * scheme.column_bytes) for t in range(n_tokens)]
            for part in _PARTS:
                of_part, columns = slice(part, None, len(_PARTS)), _columns(builder, scheme, quads, part)
                acc[of_part] = add_quads(builder, scheme, acc[of_part], columns, x_at, None, is_paired=False)
            return acc
        halves = file_block.halves(builder, at)
        after = []
        for t in range(n_tokens):
            start = start_of(t, block)
            x_scale = splat(builder, load(F32, d_rows[t] + block * 4, align=4), LANES)
            for part in _PARTS:
                x = q_rows[t] + block * (UNIT * scheme.column_bytes)
                total = _part_sums(builder, scheme, quads, part, start, x)
                scale = builder.fmul(float_of(halves[0], part), x_scale)
                before = acc[t * len(_PARTS) + part]
                value = fma(builder, builder.sitofp(total, scale.type), scale, before)
                if scheme.minimums:
                    x_sum = splat(builder, load(F32, s_rows[t] + block * 4, align=4), LANES)
                    value = fma(builder, float_of(halves[1], part), x_sum, value)
                after.append(value)
        return after

    if scheme.is_plain:
        starts = [start_of(t, Int(builder, 0)) for t in range(n_tokens) for _ in _PARTS]
        of_parts = [load(vector(F32, LANES), factors, part * LANES * 4, align=4) for part in _PARTS]
        sums = loop(n_blocks, starts, body)
        acc = scaled_rows(builder, sums, of_parts, [d_rows[t] for t in range(n_tokens)])
    else:
        acc = loop(n_blocks, [constant(F32, LANES, 0.0)] * (n_tokens * len(_PARTS)), body)
    out_rows = Strided(out, out_stride)
    for t in range(n_tokens):
        for part in _PARTS:
            store_or_add(acc[t * len(_PARTS) + part], out_rows[t] + part * LANES * 4, accumulate)


def _make_direct_tile(scheme: TileScheme, file_block: FileBlock, n_tokens: int) -> Any:
    def emit(builder: Any, *args: Int) -> None:
        _emit(builder, scheme, file_block, n_tokens, args)

    @emitted()
    def direct(builder: Any, w: list[Int], x: list[Int], y: list[Int]) -> None:
        outlined(f"llorch_{scheme.name}_direct_{n_tokens}", [*w, *x, *y], emit)

    return direct


def make_direct(scheme: TileScheme, file_block: FileBlock) -> Any:
    """A kernel ``direct(rows, row_bytes, n_blocks, n_tiles, plain, x, n_tokens, y)`` for one or two tokens.

    Args of that kernel (addresses and strides in bytes unless said otherwise):
        rows: `n_tiles` times 16 rows as in the file, `row_bytes` apart, of `n_blocks` > 0 blocks.
        plain: where weights are plain, the addresses of the numbers, int32, of the rows to take (then `rows` is the
            first one stored), and of their factors.
        x, y: as in `tiles.dot.make_dot`.
    """
    direct_1, direct_2 = (_make_direct_tile(scheme, file_block, n) for n in (1, 2))
    tile_rows = 0 if scheme.is_plain else TILE_ROWS

    @kernel
    def direct(rows, row_bytes, n_blocks, n_tiles, plain, x, n_tokens, y):
        out, out_stride, accumulate = y
        order, factors = plain
        for i in range(n_tiles):
            of_tile = (order + i * TILE_ROWS * 4, factors + i * TILE_ROWS * 4)
            w = (rows + i * tile_rows * row_bytes, row_bytes, n_blocks, *of_tile)
            at = (out + i * TILE_ROWS * 4, out_stride, accumulate)
            if n_tokens == 1:
                direct_1(w, x, at)
            else:
                direct_2(w, x, at)

    return direct
