"""Products of plain integers on AMX: the sums of whole rows stay in its registers, and are scaled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from llorch.kernels.emit.values import F32, I32, Int, Strided, load, loop, vector
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.amx_registers import SUM_BYTES, SUMS, clear_sums, start_product, store_sums
from llorch.kernels.tiles.layout import UNIT
from llorch.kernels.tiles.plain_rows import scaled_rows


class Operands(Protocol):
    """What is needed of the operands of `tiles.amx`."""

    n_tokens: int
    n_blocks: Int
    n_pairs: Int
    q: Int
    q_stride: Int
    d: Strided
    buffer: Int


def plain_rows(
    builder: Any, o: Operands, weights: Int, factors: Int, ahead: Callable[[Any, Int, Int], None] | None
) -> list[Any]:
    """float32 products of the row tile at `weights`, a vector of 16 rows per token.

    Two chains, since one product waits for the one before it into the same register; integers do not mind the order.

    Args:
        builder: of the function under construction.
        o: the kernel's operands.
        weights: of the tile.
        factors: of its rows.
        ahead: ``ahead(o, weights, pair)`` asks for weights that come later.
    """
    for sums in SUMS:
        clear_sums(builder, sums)

    def product(block: Int, half: int) -> None:
        at = weights + block * (TILE_ROWS * UNIT)
        start_product(builder, o.q + block * UNIT, o.q_stride, at, half, SUMS[half], is_first=False)

    def pair_of_blocks(pair: Int, _: list[Any]) -> list[Any]:
        if ahead is not None:
            ahead(o, weights, pair)
        for half in range(2):
            product(pair * 2 + half, half)
        return []

    def last_block(_: Int, __: list[Any]) -> list[Any]:
        product(o.n_blocks - 1, 0)
        return []

    loop(o.n_pairs, [], pair_of_blocks)
    loop(o.n_blocks & 1, [], last_block)
    size = o.n_tokens * SUM_BYTES
    even, odd = (store_sums(builder, sums, o.buffer + i * size) for i, sums in enumerate(SUMS))
    words = vector(I32, TILE_ROWS)
    totals = [
        builder.add(load(words, even, t * SUM_BYTES, align=64), load(words, odd, t * SUM_BYTES, align=64))
        for t in range(o.n_tokens)
    ]
    row_factors = load(vector(F32, TILE_ROWS), factors, align=4)
    return scaled_rows(builder, totals, [row_factors], [o.d[t] for t in range(o.n_tokens)])
