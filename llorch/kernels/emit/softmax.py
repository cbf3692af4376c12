"""Several blocks of an online softmax, for several queries at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.values import F32, I32, Int, constant, load, loop, shuffle, splat, store, vector
from llorch.kernels.emit.vectors import LOWEST_EXPONENT, exp_in_range, larger
from llorch.kernels.layout import FLOAT_LANES as LANES
from llorch.kernels.layout import KV_BLOCK_SIZE

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)
_BYTES = LANES * 4
_PARTS = range(KV_BLOCK_SIZE // LANES)
_ROW_BYTES = KV_BLOCK_SIZE * 4
_QUARTERS, _PAIR = range(4), range(2)
Combine = Callable[[Any, Any, Any], Any]


def exp_of_difference(builder: Any, x: Any) -> Any:
    """`exp_vector` of lanes that are at most 0, or NaN: the same bits with fewer instructions.

    Nothing is clipped, as what overflows is not taken. Float comparisons and maxima use the multipliers, which bound a
    softmax: with `exp_vector` it takes 12 % longer.
    """
    zero = constant(F32, x.type.count, 0.0)
    is_normal = builder.fcmp_ordered(">=", x, constant(F32, x.type.count, LOWEST_EXPONENT))
    return builder.select(is_normal, exp_in_range(builder, x), larger(builder, zero, x))


def _fold(
    builder: Any, values: list[Any], places: Sequence[int], distance: int, combine: Combine
) -> list[Any]:
    """Of each pair of vectors, or of one: lanes at `places` combined with those `distance` further on."""
    return [
        combine(
            builder,
            shuffle(builder, values[i], values[i : i + 2][-1], places),
            shuffle(builder, values[i], values[i : i + 2][-1], [place + distance for place in places]),
        )
        for i in range(0, len(values), 2)
    ]


def sums_of_lanes(builder: Any, values: list[Any]) -> Any:
    """`sum_lanes` of each of 1, 4 or 8 vectors of 16 lanes, as one vector: the same pairs, so the same bits."""
    width = LANES
    while width > 1:
        half = width // 2
        n_lanes = values[0].type.count * min(2, len(values))
        lower = [start + lane for start in range(0, n_lanes, width) for lane in range(half)]
        values, width = _fold(builder, values, lower, half, lambda b, x, y: b.fadd(x, y)), half
    return values[0]


def largest_of_lanes(builder: Any, values: list[Any]) -> Any:
    """Largest lane of each of 1, 4 or 8 vectors of 16 lanes, as one vector; NaN lanes are passed over.

    Any order gives the same. This one moves lanes within quarters first, which costs less than across them; in the
    order of `sums_of_lanes` a softmax takes 5 % longer.
    """
    if len(values) > 1:
        alternate = [4 * q + k + LANES * which for q in _QUARTERS for k in _PAIR for which in _PAIR]
        after_each_other = [4 * q + k + LANES * which for q in _QUARTERS for which in _PAIR for k in _PAIR]
        values = _fold(builder, values, alternate, 2, larger)
        values = _fold(builder, values, after_each_other, 2, larger)
        # Now each quarter of a vector has one lane of each of four queries.
        if len(values) > 1:
            halves = [lane + LANES * which for which in _PAIR for lane in range(8)]
            values = _fold(builder, values, halves, 8, larger)
            return _fold(builder, values, [*range(4), *range(8, 12)], 4, larger)[0]
        values = _fold(builder, values, range(8), 8, larger)
        return _fold(builder, values, range(4), 4, larger)[0]
    for half in (8, 4, 2, 1):
        values = _fold(builder, values, range(half), half, larger)
    return values[0]


class _Rows:
    """Scores of `n` queries in consecutive blocks: float32 (n_blocks, n, 32) at an address."""

    def __init__(self, n: int, address: Int) -> None:
        self.n, self.address = n, address

    def load(self, block: Int, query: int) -> list[Any]:
        """The vectors of a query in a block."""
        at = self.address + block * (self.n * _ROW_BYTES)
        return [load(_FLOATS, at, query * _ROW_BYTES + i * _BYTES, align=4) for i in _PARTS]

    def store(self, block: Int, query: int, vectors: list[Any]) -> None:
        at = self.address + block * (self.n * _ROW_BYTES)
        for i, value in enumerate(vectors):
            store(value, at, query * _ROW_BYTES + i * _BYTES, align=4)


def _highest(
    builder: Any, rows: _Rows, scale: Any, n_whole: Int, n_blocks: Int, limits: Int, highest: Int
) -> Any:
    """Write the highest scaled score of each query up to each block, float32 (n_blocks + 1, n), the first given.

    Raw scores that a query does not look at become -inf; returns the last of the highest.
    """
    n = rows.n
    factor = splat(builder, scale, n)

    def of_block(block: Int, before: Any, vectors: list[list[Any]]) -> list[Any]:
        # A factor above 0 keeps the order, so only the largest need it here.
        largest = largest_of_lanes(builder, [larger(builder, *pair) for pair in vectors])
        now = larger(builder, builder.fmul(largest, factor), before)
        store(now, highest + (block + 1) * (n * 4), align=4)
        return [now]

    def whole(block: Int, before: list[Any]) -> list[Any]:
        return of_block(block, before[0], [rows.load(block, m) for m in range(n)])

    def limited(i: Int, before: list[Any]) -> list[Any]:
        block = n_whole + i
        lowest = constant(F32, LANES, float("-inf"))
        first = builder.trunc((block * KV_BLOCK_SIZE).value, I32)
        seen = []
        for m in range(n):
            limit = splat(builder, builder.sub(load(I32, limits, m * 4, align=4), first), LANES)
            lanes = [ir.Constant(_WORDS, [part * LANES + lane for lane in range(LANES)]) for part in _PARTS]
            seen.append(
                [
                    builder.select(builder.icmp_signed("<", lane, limit), score, lowest)
                    for lane, score in zip(lanes, rows.load(block, m), strict=True)
                ]
            )
            rows.store(block, m, seen[m])
        return of_block(block, before[0], seen)

    last = loop(n_whole, [load(vector(F32, n), highest, align=4)], whole)
    return loop(n_blocks - n_whole, last, limited)[0]


def make_softmax(n_queries: int) -> Any:
    """A function for kernels, ``softmax(scores, n_whole, n_blocks, limits, scale, states, factors, highest)``, of 1, 4
    or 8 queries.

    It turns raw scores of consecutive blocks into weights relative to the highest score up to each block. The highest
    scores of all blocks come first: they wait for each other, and what waits for one of them need not stand between
    them (2,780 cycles for 8 queries and 8 blocks on Zen 4 with both in one loop, 2,160 so).

    Args of that function (int64; addresses unless said otherwise):
        scores: float32 (n_blocks, n_queries, 32), raw scores in, weights out.
        n_whole, n_blocks: numbers of blocks that every query sees whole, and of all.
        limits: int32 (n_queries,): positions from there on weigh 0, counted from the first block's first.
        scale: bits of the float32 score factor, which is above 0.
        states: float32 (n_queries, 2), highest score and sum of weights so far; changed.
        factors: float32 (n_blocks, n_queries): what sums and outputs before each block must be multiplied with.
        highest: float32 (n_blocks + 1, n_queries), scratch.
    """
    queries = range(n_queries)
    row = vector(F32, n_queries)

    def emit(
        builder: Any, scores: Int, n_whole: Int, n_blocks: Int, limits: Int, scale: Int, states: Int, factors: Int,
        highest: Int,
    ) -> None:  # fmt: skip
        scale_value = builder.bitcast(builder.trunc(scale.value, I32), F32)
        state = load(vector(F32, 2 * n_queries), states, align=4)
        before, total = (shuffle(builder, state, state, [2 * m + i for m in queries]) for i in _PAIR)
        store(before, highest, align=4)
        rows, row_bytes = _Rows(n_queries, scores), n_queries * 4
        last = _highest(builder, rows, scale_value, n_whole, n_blocks, limits, highest)
        factor = splat(builder, scale_value, LANES)

        def weigh(block: Int, totals: list[Any]) -> list[Any]:
            sums = []
            at = highest + block * row_bytes
            for m in queries:
                shift = splat(builder, load(F32, at, row_bytes + m * 4, align=4), LANES)
                weights = [
                    exp_of_difference(builder, builder.fsub(builder.fmul(score, factor), shift))
                    for score in rows.load(block, m)
                ]
                rows.store(block, m, weights)
                sums.append(builder.fadd(*weights))
            change = builder.fsub(load(row, at, align=4), load(row, at, row_bytes, align=4))
            rescale = exp_of_difference(builder, change)
            store(rescale, factors + block * row_bytes, align=4)
            return [builder.fadd(builder.fmul(totals[0], rescale), sums_of_lanes(builder, sums))]

        (total,) = loop(n_blocks, [total], weigh)
        both = [place for m in queries for place in (m, n_queries + m)]
        store(shuffle(builder, last, total, both), states, align=4)

    @emitted()
    def softmax(
        builder: Any, scores: Int, n_whole: Int, n_blocks: Int, limits: Int, scale: Int, states: Int, factors: Int,
        highest: Int,
    ) -> None:  # fmt: skip
        args = (scores, n_whole, n_blocks, limits, scale, states, factors, highest)
        outlined(f"softmax_{n_queries}", args, emit)

    return softmax
