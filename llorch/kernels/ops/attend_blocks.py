"""Attention over one KV block: scores of queries with its keys, their softmax, weighted sums of its values."""

from __future__ import annotations

from typing import Any

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.scalars import as_int32
from llorch.kernels.emit.values import F32, Int, Strided, constant, fma, load, loop, splat, store, vector
from llorch.kernels.emit.vectors import softmax_block
from llorch.kernels.jit import inlined, kernel
from llorch.kernels.kv_types import KVType
from llorch.kernels.layout import FLOAT_LANES as LANES
from llorch.kernels.layout import KV_BLOCK_SIZE

QUERIES = 8
"""Most queries that run together: a key or value that must be widened is widened once for all of them."""

FEW_QUERIES = 4
"""Queries that run together where nothing is widened, and where fewer than eight are left."""

_FLOATS = vector(F32, LANES)
_KEY_VECTORS = range(KV_BLOCK_SIZE // LANES)


def make_scores(n_queries: int, kv: KVType) -> Any:
    """The scores of `n_queries` queries with the 32 keys of a block, as a function for kernels of four int64.

    Args of that function (addresses unless said otherwise):
        queries: float32 (n_queries, head_dim).
        head_dim: components, a number.
        keys: the block's keys, (head_dim, 32) of the cache's type.
        out: float32 (n_queries, 32).
    """
    item = kv.item_bytes

    @emitted()
    def scores(builder: Any, queries: Int, head_dim: Int, keys: Int, out: Int) -> None:
        """Dot products, component by component."""
        query_rows = Strided(queries, head_dim * 4)

        def body(i: Int, sums: list[Any]) -> list[Any]:
            at = keys + i * (KV_BLOCK_SIZE * item)
            key = [kv.load_vector(builder, at, part * LANES * item) for part in _KEY_VECTORS]
            after = []
            for m in range(n_queries):
                q = splat(builder, load(F32, query_rows[m] + i * 4, align=4), LANES)
                after += [fma(builder, q, key[part], sums[2 * m + part]) for part in _KEY_VECTORS]
            return after

        sums = loop(head_dim, [constant(F32, LANES, 0.0)] * (2 * n_queries), body)
        for i, value in enumerate(sums):
            store(value, out, i * LANES * 4, align=4)

    @kernel
    def run(queries, head_dim, keys, out):
        scores(queries, head_dim, keys, out)

    return run


def _make_mix(n_queries: int, n_vectors: int, kv: KVType) -> Any:
    queries, vectors = range(n_queries), range(n_vectors)

    @emitted()
    def mix(
        builder: Any, weights: Int, n_valid: Int, values: Int, value_stride: Int, factors: Int, out: Int,
        out_stride: Int,
    ) -> None:  # fmt: skip
        """``out = out * factor + sum_j weight[j] * values[j]`` for some vectors of each query's output."""
        out_rows = Strided(out, out_stride)
        rows = [out_rows[m] for m in queries]
        starts = []
        for m in queries:
            factor = splat(builder, load(F32, factors, m * 4, align=4), LANES)
            olds = [load(_FLOATS, rows[m], c * LANES * 4, align=4) for c in vectors]
            starts += [builder.fmul(old, factor) for old in olds]

        def body(j: Int, sums: list[Any]) -> list[Any]:
            at = values + j * value_stride
            value = [kv.load_vector(builder, at, c * LANES * kv.item_bytes) for c in vectors]
            after = []
            for m in queries:
                p = splat(builder, load(F32, weights + j * 4, m * KV_BLOCK_SIZE * 4, align=4), LANES)
                after += [fma(builder, p, value[c], sums[m * n_vectors + c]) for c in vectors]
            return after

        for i, value in enumerate(loop(n_valid, starts, body)):
            store(value, rows[i // n_vectors], i % n_vectors * LANES * 4, align=4)

    @kernel
    def run(weights, n_valid, values, value_stride, factors, out, out_stride):
        mix(weights, n_valid, values, value_stride, factors, out, out_stride)

    return run


def make_values(n_queries: int, n_vectors: int, kv: KVType) -> Any:
    """``out = out * factor + weights @ values`` of `n_queries` queries, as a function for kernels of six int64.

    `n_vectors` vectors of columns are summed at a time, which with all queries must fit into registers.

    Args of that function (addresses unless said otherwise):
        weights: float32 (n_queries, 32), of which `n_valid` (a number) count.
        values: the block's values, (32, padded) of the cache's type; `padded`, the padded head size, is a number.
        factors: float32 (n_queries,).
        out: float32 (n_queries, padded).
    """
    mix_some, mix_one = _make_mix(n_queries, n_vectors, kv), _make_mix(n_queries, 1, kv)
    value_bytes = LANES * kv.item_bytes

    @kernel
    def run(weights, n_valid, values, padded, factors, out):
        n, stride, c = padded // LANES, padded // LANES * value_bytes, 0
        while c + n_vectors <= n:
            at, to = values + c * value_bytes, out + c * LANES * 4
            mix_some(weights, n_valid, at, stride, factors, to, padded * 4)
            c += n_vectors
        while c < n:
            at, to = values + c * value_bytes, out + c * LANES * 4
            mix_one(weights, n_valid, at, stride, factors, to, padded * 4)
            c += 1

    return run


def make_attend_block(kv: KVType) -> Any:
    """A kernel that goes on with up to QUERIES queries over the positions of one block."""
    scores_4, scores_1 = make_scores(FEW_QUERIES, kv), make_scores(1, kv)
    mix_4, mix_1 = make_values(FEW_QUERIES, 4, kv), make_values(1, 4, kv)
    scores_8 = make_scores(QUERIES, kv) if kv.is_widened else scores_4
    mix_8 = make_values(QUERIES, 2, kv) if kv.is_widened else mix_4
    row_bytes = KV_BLOCK_SIZE * 4

    @inlined
    def attend_block(h, first, n, key, value, start, n_block, scale, area, outputs, state):
        """Go on with queries ``first <= i < first + n`` of `h` over the `n_block` positions from `start` on.

        Args (addresses unless said otherwise):
            h: the queries (`attend.Heads`).
            key, value: the block's keys and values.
            area: the thread's scratch (`attend.Scratch`), which holds the queries.
            outputs, state: sums of weighted values, highest scores and sums of weights so far; changed.
        """
        queries, scores, factors = area.queries, area.scores, area.factors
        position = as_int32(h.positions)
        if n == QUERIES:
            scores_8(queries, h.head_dim, key, scores)
        elif n == FEW_QUERIES:
            scores_4(queries, h.head_dim, key, scores)
        else:
            for m in range(n):
                scores_1(queries + m * h.head_dim * 4, h.head_dim, key, scores + m * row_bytes)
        for m in range(n):
            n_valid = position[(first + m) // h.n_rep] + 1 - start
            softmax_block(scores + m * row_bytes, n_valid, scale, state + m * 8, factors + m * 4)
        if n == QUERIES:
            mix_8(scores, n_block, value, h.padded, factors, outputs)
        elif n == FEW_QUERIES:
            mix_4(scores, n_block, value, h.padded, factors, outputs)
        else:
            for m in range(n):
                to = outputs + m * h.padded * 4
                mix_1(scores + m * row_bytes, n_block, value, h.padded, factors + m * 4, to)

    return attend_block
