"""Attention's inner loops over one KV block: scores of queries with its keys, weighted sums of its values."""

from __future__ import annotations

from typing import Any

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import F32, Int, Strided, constant, fma, load, loop, splat, store, vector
from llorch.kernels.jit import kernel
from llorch.kernels.kv_types import KVType
from llorch.kernels.layout import FLOAT_LANES as LANES
from llorch.kernels.layout import KV_BLOCK_SIZE

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
