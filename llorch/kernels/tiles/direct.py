"""Products of one or two tokens with Q8_0 rows where they lie in the file: transposed in registers, never stored.

The same block sums in the same order as `tiles.dot`, so the same bits; with few tokens, packing a tile first would
write and read everything once more.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import (
    F32,
    I8,
    I32,
    Int,
    Strided,
    constant,
    fma,
    load,
    loop,
    splat,
    store_or_add,
    vector,
)
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.dot import LANES, PATH, dot_product
from llorch.kernels.tiles.layout import BLOCK, FILE_BLOCK_BYTES, QUADS
from llorch.kernels.tiles.pack import add_bias, emit_tile_block, row_addresses

MOST_TOKENS = 2
"""Tokens the kernel can take at a time."""

_PARTS = range(TILE_ROWS // LANES)
"""Vectors that hold a column of a tile."""


def _lanes_of(builder: Any, value: Any, part: int) -> Any:
    """Lanes ``part * LANES`` and up of a 16-lane vector."""
    if LANES == TILE_ROWS:
        return value
    mask = ir.Constant(vector(I32, LANES), list(range(part * LANES, (part + 1) * LANES)))
    return builder.shuffle_vector(value, value, mask)


def _part_sums(builder: Any, quads: list[Any], part: int, start: Any, x: Int) -> Any:
    """int32 sums of one block for the rows of one part; `x` is the token's address in the block.

    Two chains, since one dot product waits for the one before it; integers do not mind the order.
    """
    bytes_ = vector(I8, LANES * 4)
    chains = [start, constant(I32, LANES, 0)]
    for k in range(QUADS):
        activation = builder.bitcast(splat(builder, load(I32, x, k * 4, align=4), LANES), bytes_)
        weights = builder.bitcast(_lanes_of(builder, quads[k], part), bytes_)
        chains[k % 2] = dot_product(builder, chains[k % 2], weights, activation)
    return builder.add(*chains)


def _emit(builder: Any, n_tokens: int, w: list[Int], x: list[Int], y: list[Int]) -> None:
    source, row_bytes, n_blocks = w
    q, q_stride, d, s, block_stride = x
    out, out_stride, accumulate = y
    q_rows, d_rows, s_rows = Strided(q, q_stride), Strided(d, block_stride), Strided(s, block_stride)
    tokens = range(n_tokens)
    ahead = source + row_bytes * TILE_ROWS

    def body(block: Int, acc: list[Any]) -> list[Any]:
        next_tile = ahead + block * (TILE_ROWS * FILE_BLOCK_BYTES)
        quads, halves = emit_tile_block(builder, row_addresses(source, row_bytes, block), next_tile)
        if PATH.bias:
            quads = [add_bias(builder, quad) for quad in quads]
        after = []
        for t in tokens:
            start = constant(I32, LANES, 0)
            if PATH.bias:
                start = splat(builder, load(I32, s_rows[t] + block * 4, align=4), LANES)
            x_scale = splat(builder, load(F32, d_rows[t] + block * 4, align=4), LANES)
            for part in _PARTS:
                total = _part_sums(builder, quads, part, start, q_rows[t] + block * BLOCK)
                scale = builder.fmul(half_to_float(builder, _lanes_of(builder, halves, part)), x_scale)
                before = acc[t * len(_PARTS) + part]
                after.append(fma(builder, builder.sitofp(total, scale.type), scale, before))
        return after

    acc = loop(n_blocks, [constant(F32, LANES, 0.0)] * (n_tokens * len(_PARTS)), body)
    out_rows = Strided(out, out_stride)
    for t in tokens:
        for part in _PARTS:
            store_or_add(acc[t * len(_PARTS) + part], out_rows[t] + part * LANES * 4, accumulate)


def make_direct(n_tokens: int) -> Any:
    """The kernel for `n_tokens` as a function for kernels of three tuples of int64.

    Args of that function (addresses and strides in bytes unless said otherwise):
        w: 16 rows as in the file, their stride, number of blocks (> 0).
        x, y: as in `tiles.dot.make_dot`.
    """

    def emit(builder: Any, *args: Int) -> None:
        _emit(builder, n_tokens, list(args[:3]), list(args[3:8]), list(args[8:]))

    @emitted()
    def direct(builder: Any, w: list[Int], x: list[Int], y: list[Int]) -> None:
        outlined(f"llorch_q8_direct_{n_tokens}", [*w, *x, *y], emit)

    return direct
