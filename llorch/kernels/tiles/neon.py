"""Integer dot products of ARM: `sdot` multiplies one token at a time, `smmla` (i8mm) two of them with two rows.

`sdot` takes quads as they are everywhere, and the activations of four quads in one vector: the instruction picks its
lane, so that there is one load for 16 columns.

`smmla` wants 8 columns of a row side by side. The tiles of that path hold every two quads as a pair: of each 4 rows,
the first vector has 8 columns of rows 0 and 1, the second of rows 2 and 3. In registers this would cost a third of
what the wider instruction saves (for 6 tokens and a block of 32 columns of 8 rows, 16 shuffles beside 48 `smmla`;
`sdot` takes 96); in tiles it costs nothing. `smmla` gives a square of 2 rows and 2 tokens, which one shuffle for each
vector of rows turns back after the last column. A token without a partner goes by `sdot`: its sums of 4 columns are
neighbours, which one instruction adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from llorch.kernels.emit.values import I8, I32, I64, Int, call, constant, load, shuffle, vector
from llorch.kernels.emit.vectors import add_neighbours

LANES = 4
"""int32 in a register of 128 bits; the intrinsics know no wider vectors."""

DOTS = ("neon", "i8mm")
"""Kinds of dot products (`paths.KernelPath.dot`) of which this module knows."""

_BYTES, _SUMS, _LONGS = vector(I8, 16), vector(I32, LANES), vector(I64, 2)
_QUADS_OF_A_LOAD = 4


def sdot(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """To each int32 the products of four int8."""
    return call(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", _SUMS, [acc, a, b])


def smmla(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """To int32 (2, 2) the products of the rows of `a`, int8 (2, 8), with those of `b`."""
    return call(builder, "llvm.aarch64.neon.smmla.v4i32.v16i8", _SUMS, [acc, a, b])


def look_up_16(builder: Any, table: Any, numbers: Any) -> Any:
    """Bytes of a table of 16 by their numbers, 16 at a time; 0 for numbers from 16 on."""
    return call(builder, "llvm.aarch64.neon.tbl1.v16i8", _BYTES, [table, numbers])


def paired(builder: Any, quads: Sequence[Any]) -> list[Any]:
    """Quads, vectors of int32 whose length is a multiple of 4, as pairs (see above); there are as many."""
    n = quads[0].type.count
    result = []
    for a, b in zip(quads[::2], quads[1::2], strict=True):
        for first in (0, 2):
            rows = [group + first + i for group in range(0, n, LANES) for i in range(2)]
            places = [place for row in rows for place in (row, n + row)]
            result.append(shuffle(builder, a, b, places))
    return result


def add_quads(
    builder: Any, totals: Sequence[Any], weights: Sequence[Sequence[Any]], x_at: Sequence[Int],
    factors: Sequence[Any] | None, is_paired: bool,
) -> list[Any]:  # fmt: skip
    """`integers.add_quads` with these instructions; with `is_paired` the weights are pairs of quads."""
    n = len(weights[0])
    fresh = constant(I32, LANES, 0)
    sums: list[Any] = list(totals) if factors is None and not is_paired else [fresh] * len(totals)
    if not is_paired:
        _add_by_lane(builder, sums, weights, x_at)
    else:
        for t in range(0, len(x_at) - 1, 2):
            sums[t * n : (t + 2) * n] = _two_tokens(builder, weights, x_at[t : t + 2])
        if len(x_at) % 2:
            sums[-n:] = _one_token(builder, weights, x_at[-1])
    if factors is not None:
        sums = [builder.mul(total, factors[i % n]) for i, total in enumerate(sums)]
    elif not is_paired:
        return sums
    return [builder.add(a, b) for a, b in zip(totals, sums, strict=True)]


def _add_by_lane(
    builder: Any, sums: list[Any], weights: Sequence[Sequence[Any]], x_at: Sequence[Int]
) -> None:
    n = len(weights[0])
    for first in range(0, len(weights), _QUADS_OF_A_LOAD):
        loaded = [load(_SUMS, at, first * 4, align=4) for at in x_at]
        for i, vectors in enumerate(weights[first : first + _QUADS_OF_A_LOAD]):
            for t, x in enumerate(loaded):
                lane = builder.shuffle_vector(x, x, constant(I32, LANES, i))
                for v, w in enumerate(vectors):
                    place = t * n + v
                    sums[place] = sdot(builder, sums[place], w, builder.bitcast(lane, _BYTES))


def _two_tokens(builder: Any, weights: Sequence[Sequence[Any]], x_at: Sequence[Int]) -> list[Any]:
    """Sums of two tokens with pairs of quads, token-major."""
    n = len(weights[0])
    squares = [[constant(I32, LANES, 0)] * 2 for _ in range(n)]
    for first in range(0, len(weights), _QUADS_OF_A_LOAD):
        a, b = (load(_LONGS, at, first * 4, align=4) for at in x_at)
        for half in range(2):
            x = builder.bitcast(shuffle(builder, a, b, [half, 2 + half]), _BYTES)
            for v, of_rows in enumerate(squares):
                for i in range(2):
                    of_rows[i] = smmla(builder, of_rows[i], weights[first + half * 2 + i][v], x)
    return [shuffle(builder, a, b, range(t, 8, 2)) for t in range(2) for a, b in squares]


def _one_token(builder: Any, weights: Sequence[Sequence[Any]], x_at: Int) -> list[Any]:
    """Sums of one token with pairs of quads."""
    n = len(weights[0])
    sums = [[constant(I32, LANES, 0)] * 2 for _ in range(n)]
    for first in range(0, len(weights), 2):
        eight = load(I64, x_at, first * 4, align=4)
        both = builder.insert_element(ir.Constant(_LONGS, ir.Undefined), eight, ir.Constant(I32, 0))
        x = builder.bitcast(shuffle(builder, both, both, [0, 0]), _BYTES)
        for v, of_rows in enumerate(sums):
            for i in range(2):
                of_rows[i] = sdot(builder, of_rows[i], weights[first + i][v], x)
    return [add_neighbours(builder, a, b) for a, b in sums]
