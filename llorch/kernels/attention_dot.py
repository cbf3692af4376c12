"""Attention's inner loops over one KV block, emitted as LLVM IR: scores of queries and weighted sums of values."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.intrinsics import (
    F32,
    I16,
    I64,
    constant,
    fma,
    half_to_float,
    intrinsic,
    load,
    loop,
    splat,
    store,
    vector,
)  # fmt: skip
from llorch.kernels.jit import kernel

KV_BLOCK_SIZE = 32
LANES = 16


def _load_cache(builder: Any, is_half: bool, address: Any, offset: int) -> Any:
    if is_half:
        return half_to_float(builder, load(builder, vector(I16, LANES), address, offset, align=2))
    return load(builder, vector(F32, LANES), address, offset, align=4)


def make_scores(n_queries: int, is_half: bool) -> Any:
    """The scores of `n_queries` queries, as a Numba function of four int64.

    Args of that function (addresses unless said otherwise):
        queries: float32 (n_queries, head_dim).
        head_dim: components, a number.
        keys: the block's keys (head_dim, 32), float16 if `is_half`, else float32.
        out: float32 (n_queries, 32).
    """

    @intrinsic
    def scores(typingctx, queries, head_dim, keys, out):
        """Dot products of `n_queries` queries with the 32 keys of a block, component by component."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            queries_, n, keys_, out_ = args
            item = 2 if is_half else 4

            def body(i: Any, sums: list[Any]) -> list[Any]:
                at = builder.add(keys_, builder.mul(i, ir.Constant(I64, KV_BLOCK_SIZE * item)))
                key = [_load_cache(builder, is_half, at, half * LANES * item) for half in range(2)]
                after = []
                for m in range(n_queries):
                    component = builder.add(builder.mul(n, ir.Constant(I64, m)), i)
                    address = builder.add(queries_, builder.mul(component, ir.Constant(I64, 4)))
                    q = splat(builder, load(builder, F32, address, align=4), LANES)
                    after += [fma(builder, q, key[half], sums[2 * m + half]) for half in range(2)]
                return after

            sums = loop(builder, n, [constant(F32, LANES, 0.0)] * (2 * n_queries), body)
            for i, value in enumerate(sums):
                store(builder, value, out_, i * LANES * 4, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    @kernel
    def run(queries, head_dim, keys, out):
        scores(queries, head_dim, keys, out)

    return run


def _make_mix(n_queries: int, n_vectors: int, is_half: bool) -> Any:
    @intrinsic
    def mix(typingctx, weights, n_valid, values, value_stride, factors, out, out_stride):
        """``out = out * factor + sum_j weight[j] * values[j]`` for some vectors of each query's output."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights_, n, values_, stride, factors_, out_, out_stride_ = args
            item = 2 if is_half else 4
            floats = vector(F32, LANES)
            queries, vectors = range(n_queries), range(n_vectors)
            rows = [builder.add(out_, builder.mul(out_stride_, ir.Constant(I64, m))) for m in queries]
            starts = []
            for m in queries:
                factor = splat(builder, load(builder, F32, factors_, m * 4, align=4), LANES)
                for c in vectors:
                    old = load(builder, floats, rows[m], c * LANES * 4, align=4)
                    starts.append(builder.fmul(old, factor))

            def body(j: Any, sums: list[Any]) -> list[Any]:
                at = builder.add(values_, builder.mul(j, stride))
                value = [_load_cache(builder, is_half, at, c * LANES * item) for c in vectors]
                weight_at = builder.add(weights_, builder.mul(j, ir.Constant(I64, 4)))
                after = []
                for m in queries:
                    p = load(builder, F32, weight_at, m * KV_BLOCK_SIZE * 4, align=4)
                    p = splat(builder, p, LANES)
                    after += [fma(builder, p, value[c], sums[m * n_vectors + c]) for c in vectors]
                return after

            for i, value in enumerate(loop(builder, n, starts, body)):
                store(builder, value, rows[i // n_vectors], i % n_vectors * LANES * 4, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    @kernel
    def run(weights, n_valid, values, value_stride, factors, out, out_stride):
        mix(weights, n_valid, values, value_stride, factors, out, out_stride)

    return run


def make_values(n_queries: int, n_vectors: int, is_half: bool) -> Any:
    """``out = out * factor + weights @ values`` of `n_queries` queries, as a Numba function of six int64.

    `n_vectors` vectors of columns are summed at a time, which with all queries must fit into registers.

    Args of that function (addresses unless said otherwise):
        weights: float32 (n_queries, 32), of which `n_valid` (a number) count.
        values: the block's values (32, wide), float16 if `is_half`, else float32; `wide` is a number.
        factors: float32 (n_queries,).
        out: float32 (n_queries, wide).
    """
    mix_some, mix_one = _make_mix(n_queries, n_vectors, is_half), _make_mix(n_queries, 1, is_half)
    value_bytes = LANES * (2 if is_half else 4)

    @kernel
    def run(weights, n_valid, values, wide, factors, out):
        n, stride, c = wide // LANES, wide // LANES * value_bytes, 0
        while c + n_vectors <= n:
            mix_some(
                weights, n_valid, values + c * value_bytes, stride, factors, out + c * LANES * 4, wide * 4
            )
            c += n_vectors
        while c < n:
            mix_one(
                weights, n_valid, values + c * value_bytes, stride, factors, out + c * LANES * 4, wide * 4
            )
            c += 1

    return run
