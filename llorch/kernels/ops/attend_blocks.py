"""Attention over KV blocks: scores of queries with their keys, weighted sums of their values."""

from __future__ import annotations

from typing import Any, NamedTuple

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.values import (
    F32,
    I64,
    Int,
    Strided,
    choose,
    constant,
    fma,
    load,
    loop,
    prefetch_bytes,
    splat,
    store,
    vector,
)
from llorch.kernels.kv_types import KVType
from llorch.kernels.layout import FLOAT_LANES as LANES
from llorch.kernels.layout import KV_BLOCK_SIZE

QUERIES = 8
"""Most queries that run together."""

FEW_QUERIES = 4
"""Two or three queries are made up to so many, five to seven to `QUERIES`: one costs half of four, as every number of
the cache must be widened."""

_IS_WIDE = paths.has("avx512f")

_TILE_SUMS = 16 if _IS_WIDE else 4
"""Vectors of 16 sums of a micro-kernel. AVX2's 16 registers hold half a vector each: with 8 sums some are spilled, and
it is half as fast."""

_TILE_VECTORS = 4 if _IS_WIDE else 1
"""Most vectors of keys or values that these are made of. With 4 queries by 4 vectors the scores over a float16 cache
take 0.93 of the time of 8 by 2, where more loads stand beside each conversion. To convert once for all queries of a
task was not worth it: from a float32 cache they are 1 % faster."""

BLOCKS = 2 if _IS_WIDE else 1
"""Blocks whose scores are computed together, that there are so many vectors."""

_FLOATS = vector(F32, LANES)
_ROW_BYTES = KV_BLOCK_SIZE * 4
_KEY_VECTORS = KV_BLOCK_SIZE // LANES


def _chunks(n: int, size: int) -> list[range]:
    return [range(first, min(first + size, n)) for first in range(0, n, size)]


def make_scores(n_queries: int, n_blocks: int, kv: KVType, *, is_ahead: bool = False) -> Any:
    """The scores of `n_queries` queries with the keys of `n_blocks` blocks, as a function for kernels of five int64.

    Args of that function (addresses unless said otherwise):
        queries: float32 (n_queries, head_dim).
        head_dim: components, a number.
        keys: int64 (n_blocks,), addresses of the blocks' keys, (head_dim, 32) of the cache's type.
        ahead: int64 (n_blocks,), addresses of as many bytes that are fetched on the way if `is_ahead`, into the second
            cache: the first has no room for what is wanted later.
        out: float32 (n_blocks, n_queries, 32).
    """
    row_bytes = KV_BLOCK_SIZE * kv.item_bytes

    def tile(
        builder: Any, queries: list[Int], head_dim: Int, keys: list[Int], ahead: list[Int]
    ) -> list[list[Any]]:
        """Scores of some queries with some vectors of keys."""

        def body(i: Int, sums: list[Any]) -> list[Any]:
            for address in ahead:
                prefetch_bytes(address + i * row_bytes, row_bytes, level=2)
            key = [kv.load_vector(builder, at + i * row_bytes, 0) for at in keys]
            after = []
            for m, query in enumerate(queries):
                q = splat(builder, load(F32, query + i * 4, align=4), LANES)
                after += [fma(builder, q, k, sums[m * len(keys) + c]) for c, k in enumerate(key)]
            return after

        sums = loop(head_dim, [constant(F32, LANES, 0.0)] * (len(queries) * len(keys)), body)
        return [sums[m * len(keys) :][: len(keys)] for m in range(len(queries))]

    def emit(builder: Any, queries: Int, head_dim: Int, keys: Int, ahead: Int, out: Int) -> None:
        """Dot products, component by component."""
        rows = Strided(queries, head_dim * 4)
        blocks, wanted = (
            [Int(builder, load(I64, table, b * 8, align=8)) for b in range(n_blocks)]
            for table in (keys, ahead)
        )
        wanted = wanted if is_ahead else []
        for columns in _chunks(n_blocks * _KEY_VECTORS, _TILE_VECTORS):
            places = [divmod(column, _KEY_VECTORS) for column in columns]
            starts = [blocks[b] + part * LANES * kv.item_bytes for b, part in places]
            for some in _chunks(n_queries, _TILE_SUMS // len(columns)):
                scores = tile(builder, [rows[m] for m in some], head_dim, starts, wanted)
                wanted = []
                for m, row in zip(some, scores, strict=True):
                    for (b, part), value in zip(places, row, strict=True):
                        store(value, out, (b * n_queries + m) * _ROW_BYTES + part * LANES * 4, align=4)

    @emitted()
    def scores(builder: Any, queries: Int, head_dim: Int, keys: Int, ahead: Int, out: Int) -> None:
        name = f"scores_{n_queries}_{n_blocks}_{kv.name}_{is_ahead}"
        outlined(name, (queries, head_dim, keys, ahead, out), emit)

    return scores


class _Columns(NamedTuple):
    """Some vectors of rows of values: where they begin in a row and how wide a row is, in bytes, and how many."""

    begin: Int
    stride: Int
    n: int


def _mix_columns(
    builder: Any, weights: Strided, n_blocks: Int, n_last: Int, values: Int, ahead: Int | None, columns: _Columns,
    factors: Strided, rows: list[Int], kv: KVType,
) -> None:  # fmt: skip
    """Some vectors of the outputs of some queries, which begin at `rows`."""
    queries, vectors, n = range(len(rows)), range(columns.n), columns.n
    starts = [load(_FLOATS, row, c * LANES * 4, align=4) for row in rows for c in vectors]

    def block(b: Int, sums: list[Any]) -> list[Any]:
        at = Int(builder, load(I64, values + b * 8, align=8)) + columns.begin
        wanted = None if ahead is None else Int(builder, load(I64, ahead + b * 8, align=8)) + columns.begin
        now, of_block = factors.base + b * factors.stride, weights.base + b * weights.stride
        for m in queries:
            factor = splat(builder, load(F32, now, m * 4, align=4), LANES)
            for c in vectors:
                sums[m * n + c] = builder.fmul(sums[m * n + c], factor)

        def position(j: Int, sums: list[Any]) -> list[Any]:
            if wanted is not None:
                prefetch_bytes(wanted + j * columns.stride, n * LANES * kv.item_bytes, level=2)
            value = [
                kv.load_vector(builder, at + j * columns.stride, c * LANES * kv.item_bytes) for c in vectors
            ]
            after = []
            for m in queries:
                p = splat(builder, load(F32, of_block + j * 4, m * _ROW_BYTES, align=4), LANES)
                after += [fma(builder, p, value[c], sums[m * n + c]) for c in vectors]
            return after

        n_valid = choose((b + 1).equals(n_blocks), n_last, Int(builder, KV_BLOCK_SIZE))
        return loop(n_valid, sums, position)

    for i, value in enumerate(loop(n_blocks, starts, block)):
        store(value, rows[i // n], i % n * LANES * 4, align=4)


def make_values(n_queries: int, kv: KVType, *, is_ahead: bool = False) -> Any:
    """Weighted sums of values over some blocks, of `n_queries` queries, as a function for kernels of eight int64.

    Each block does ``out = out * factor + weights @ values``; sums stay in registers from block to block. To leave
    products with a factor of 1 out was not worth a branch: in a part of 8 blocks few of them have no new highest score.

    Args of that function (addresses unless said otherwise):
        weights: float32 (n_blocks, n_queries, 32).
        n_blocks, n_last: numbers of blocks, and of positions that count in the last.
        values: int64 (n_blocks,), addresses of the blocks' values, (32, padded) of the cache's type.
        ahead: int64 (n_blocks,), addresses of as many bytes that are fetched on the way if `is_ahead`.
        padded: padded head size, a number.
        factors: float32 (n_blocks, n_queries).
        out: float32 (n_queries, padded).
    """

    def emit(
        builder: Any, weights: Int, n_blocks: Int, n_last: Int, values: Int, ahead: Int, padded: Int, factors: Int,
        out: Int,
    ) -> None:  # fmt: skip
        rows = Strided(out, padded * 4)
        n = padded >> (LANES.bit_length() - 1)
        n_wide = n >> (_TILE_VECTORS.bit_length() - 1)

        def mix_columns(first: Int, n_vectors: int) -> None:
            """`n_vectors` vectors from number `first` on."""
            columns = _Columns(first * (LANES * kv.item_bytes), padded * kv.item_bytes, n_vectors)
            for some in _chunks(n_queries, _TILE_SUMS // _TILE_VECTORS):
                wanted = ahead if is_ahead and not some[0] else None
                _mix_columns(
                    builder, Strided(weights + some[0] * _ROW_BYTES, n_queries * _ROW_BYTES), n_blocks, n_last,
                    values, wanted, columns, Strided(factors + some[0] * 4, n_queries * 4),
                    [rows[m] + first * (LANES * 4) for m in some], kv)  # fmt: skip

        def wide(i: Int, _: list[Any]) -> list[Any]:
            mix_columns(i * _TILE_VECTORS, _TILE_VECTORS)
            return []

        def narrow(i: Int, _: list[Any]) -> list[Any]:
            mix_columns(n_wide * _TILE_VECTORS + i, 1)
            return []

        loop(n_wide, [], wide)
        if _TILE_VECTORS > 1:
            loop(n - n_wide * _TILE_VECTORS, [], narrow)

    @emitted()
    def mix(
        builder: Any, weights: Int, n_blocks: Int, n_last: Int, values: Int, ahead: Int, padded: Int, factors: Int,
        out: Int,
    ) -> None:  # fmt: skip
        args = (weights, n_blocks, n_last, values, ahead, padded, factors, out)
        outlined(f"values_{n_queries}_{kv.name}_{is_ahead}", args, emit)

    return mix
