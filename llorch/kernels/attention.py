"""Causal attention over KV blocks: one pass with an online softmax, a few query heads at a time.

A block holds 32 positions: keys ``[head_dim][32]`` (transposed), values ``[32][head_dim, padded to 16]``. Up to
four queries that share a KV head run together; what each of them computes does not depend on the others, and
blocks are visited in order of position, so a row's bits never depend on the batch.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types
from numpy import float32, inf

from llorch.kernels.convert import float32_to_half
from llorch.kernels.intrinsics import (
    F32,
    I16,
    I64,
    as_float32,
    as_int32,
    as_uint16,
    atomic_add,
    constant,
    fma,
    fused_multiply_add,
    half_to_float,
    half_to_float32,
    intrinsic,
    load,
    loop,
    splat,
    store,
    vector,
)  # fmt: skip
from llorch.kernels.jit import kernel, piece
from llorch.kernels.vectors import exp_float32, softmax_block

KV_BLOCK_SIZE = 32
QUERIES = 4
_LANES = 16


def padded_head_dim(head_dim: int) -> int:
    """`head_dim` rounded up to whole vectors; values and outputs are stored that wide."""
    return -(-head_dim // _LANES) * _LANES


def scratch_bytes(head_dim: int) -> int:
    """Bytes of scratch one thread needs in `attend`: queries, outputs, scores and softmax state."""
    return QUERIES * 4 * (head_dim + padded_head_dim(head_dim) + KV_BLOCK_SIZE + 3) + 64


def _load_cache(builder: Any, is_half: bool, address: Any, offset: int) -> Any:
    if is_half:
        return half_to_float(builder, load(builder, vector(I16, _LANES), address, offset, align=2))
    return load(builder, vector(F32, _LANES), address, offset, align=4)


def _make_scores(n_queries: int, is_half: bool) -> Any:
    @intrinsic
    def scores(typingctx, queries, head_dim, keys, out):
        """Dot products of `n_queries` queries with the 32 keys of a block, component by component."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            queries_, n, keys_, out_ = args
            item = 2 if is_half else 4

            def body(i: Any, sums: list[Any]) -> list[Any]:
                at = builder.add(keys_, builder.mul(i, ir.Constant(I64, KV_BLOCK_SIZE * item)))
                key = [_load_cache(builder, is_half, at, half * _LANES * item) for half in range(2)]
                after = []
                for m in range(n_queries):
                    component = builder.add(builder.mul(n, ir.Constant(I64, m)), i)
                    address = builder.add(queries_, builder.mul(component, ir.Constant(I64, 4)))
                    q = splat(builder, load(builder, F32, address, align=4), _LANES)
                    after += [fma(builder, q, key[half], sums[2 * m + half]) for half in range(2)]
                return after

            sums = loop(builder, n, [constant(F32, _LANES, 0.0)] * (2 * n_queries), body)
            for i, value in enumerate(sums):
                store(builder, value, out_, i * _LANES * 4, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    @kernel
    def run(queries, head_dim, keys, out):
        scores(queries, head_dim, keys, out)

    return run


def _make_values(n_queries: int, n_vectors: int, is_half: bool) -> Any:
    @intrinsic
    def mix(typingctx, weights, n_valid, values, value_stride, factors, out, out_stride):
        """``out = out * factor + sum_j weight[j] * values[j]`` for some vectors of each query's output."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights_, n, values_, stride, factors_, out_, out_stride_ = args
            item = 2 if is_half else 4
            floats = vector(F32, _LANES)
            queries, vectors = range(n_queries), range(n_vectors)
            rows = [builder.add(out_, builder.mul(out_stride_, ir.Constant(I64, m))) for m in queries]
            starts = []
            for m in queries:
                factor = splat(builder, load(builder, F32, factors_, m * 4, align=4), _LANES)
                for c in vectors:
                    old = load(builder, floats, rows[m], c * _LANES * 4, align=4)
                    starts.append(builder.fmul(old, factor))

            def body(j: Any, sums: list[Any]) -> list[Any]:
                at = builder.add(values_, builder.mul(j, stride))
                value = [_load_cache(builder, is_half, at, c * _LANES * item) for c in vectors]
                weight_at = builder.add(weights_, builder.mul(j, ir.Constant(I64, 4)))
                after = []
                for m in queries:
                    p = load(builder, F32, weight_at, m * KV_BLOCK_SIZE * 4, align=4)
                    p = splat(builder, p, _LANES)
                    after += [fma(builder, p, value[c], sums[m * n_vectors + c]) for c in vectors]
                return after

            for i, value in enumerate(loop(builder, n, starts, body)):
                store(builder, value, rows[i // n_vectors], i % n_vectors * _LANES * 4, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    @kernel
    def run(weights, n_valid, values, value_stride, factors, out, out_stride):
        mix(weights, n_valid, values, value_stride, factors, out, out_stride)

    return run


def _make_attend(is_half: bool) -> Any:
    scores_4, scores_1 = _make_scores(QUERIES, is_half), _make_scores(1, is_half)
    mix_4x4, mix_4x1 = _make_values(QUERIES, 4, is_half), _make_values(QUERIES, 1, is_half)
    mix_1x4, mix_1x1 = _make_values(1, 4, is_half), _make_values(1, 1, is_half)
    item = 2 if is_half else 4

    @kernel
    def attend_queries(q, q_stride, out, out_stride, first, n, row, n_rep, head, head_dim, scale, positions,
                       table, keys, values, key_bytes, value_bytes, scratch):  # fmt: skip
        """`n` <= 4 queries, numbered from `first` within the rows starting at `row`, on one KV head."""
        wide = (head_dim + 15) // 16 * 16
        query = carray(as_float32(scratch), QUERIES * head_dim)
        mixed_at = scratch + QUERIES * head_dim * 4
        mixed = carray(as_float32(mixed_at), QUERIES * wide)
        scores_at = mixed_at + QUERIES * wide * 4
        factor_at = scores_at + QUERIES * KV_BLOCK_SIZE * 4
        state_at = factor_at + QUERIES * 4
        state = carray(as_float32(state_at), QUERIES * 2)
        position = carray(as_int32(positions), row + (first + n - 1) // n_rep + 1)
        block_of = carray(as_int32(table), 1)
        for m in range(n):
            at = (
                q
                + (row + (first + m) // n_rep) * q_stride
                + (head * n_rep + (first + m) % n_rep) * head_dim * 4
            )
            source = carray(as_float32(at), head_dim)
            for i in range(head_dim):
                query[m * head_dim + i] = source[i]
            state[2 * m] = float32(-inf)
            state[2 * m + 1] = float32(0)
        for i in range(n * wide):
            mixed[i] = float32(0)
        n_positions = position[row + (first + n - 1) // n_rep] + 1
        for start in range(0, n_positions, KV_BLOCK_SIZE):
            block = block_of[start // KV_BLOCK_SIZE]
            key, value = keys + block * key_bytes, values + block * value_bytes
            n_block = min(KV_BLOCK_SIZE, n_positions - start)
            if n == QUERIES:
                scores_4(scratch, head_dim, key, scores_at)
            else:
                for m in range(n):
                    scores_1(scratch + m * head_dim * 4, head_dim, key, scores_at + m * KV_BLOCK_SIZE * 4)
            for m in range(n):
                n_valid = position[row + (first + m) // n_rep] + 1 - start
                softmax_block(
                    scores_at + m * KV_BLOCK_SIZE * 4, n_valid, scale, state_at + m * 8, factor_at + m * 4
                )
            for column in range(0, wide, 64):
                left = (wide - column) // 16
                for m in range(0, n, QUERIES if n == QUERIES else 1):
                    p, f = scores_at + m * KV_BLOCK_SIZE * 4, factor_at + m * 4
                    for c in range(0, min(left, 4), 4 if left >= 4 else 1):
                        v = value + (column + c * 16) * item
                        o = mixed_at + (m * wide + column + c * 16) * 4
                        if left >= 4 and n == QUERIES:
                            mix_4x4(p, n_block, v, wide * item, f, o, wide * 4)
                        elif left >= 4:
                            mix_1x4(p, n_block, v, wide * item, f, o, wide * 4)
                        elif n == QUERIES:
                            mix_4x1(p, n_block, v, wide * item, f, o, wide * 4)
                        else:
                            mix_1x1(p, n_block, v, wide * item, f, o, wide * 4)
        for m in range(n):
            at = (
                out
                + (row + (first + m) // n_rep) * out_stride
                + (head * n_rep + (first + m) % n_rep) * head_dim * 4
            )
            target = carray(as_float32(at), head_dim)
            inverse = float32(1) / state[2 * m + 1]
            for i in range(head_dim):
                target[i] = mixed[m * wide + i] * inverse

    return attend_queries


_attend_f32, _attend_f16 = _make_attend(False), _make_attend(True)


@piece("attention", 19, float32_at=8)
def attend(is_half, q, q_stride, out, out_stride, n_head, n_head_kv, head_dim, scale, positions, slots, tables,
           table_stride, groups, n_groups, keys, values, counter, scratch):  # fmt: skip
    """One thread's share of the attention of a batch, for one layer.

    Args (int64; addresses unless said otherwise):
        is_half: whether the cache is float16.
        q, out: float32 rows (n_head, head_dim), `q_stride` and `out_stride` bytes apart.
        scale: float32 score factor.
        positions, slots: int32 (n_rows,).
        tables: int32 block tables, `table_stride` bytes per slot.
        groups: int32 (n_groups, 2), first row and number of rows of runs that belong to one sequence.
        keys, values: this layer's part of the cache, blocks of (n_head_kv, ...) contiguous.
        counter: the shared int64 that hands out (group, KV head) pairs; 0 at the start.
        scratch: `scratch_bytes` of this thread's own.
    """
    item = 2 if is_half else 4
    wide = (head_dim + 15) // 16 * 16
    key_bytes = KV_BLOCK_SIZE * head_dim * item
    value_bytes = KV_BLOCK_SIZE * wide * item
    n_rep = n_head // n_head_kv
    group = carray(as_int32(groups), 2 * n_groups)
    while True:
        work = atomic_add(counter, 1)
        if work >= n_groups * n_head_kv:
            break
        # Late rows see more positions: hand them out first.
        row = int(group[2 * (n_groups - 1 - work // n_head_kv)])
        n_queries = int(group[2 * (n_groups - 1 - work // n_head_kv) + 1]) * n_rep
        head = work % n_head_kv
        slot = carray(as_int32(slots), row + 1)[row]
        table = tables + slot * table_stride
        k, v = keys + head * key_bytes, values + head * value_bytes
        for first in range(0, n_queries, QUERIES):
            n = min(QUERIES, n_queries - first)
            if is_half:
                _attend_f16(q, q_stride, out, out_stride, first, n, row, n_rep, head, head_dim, scale, positions,
                            table, k, v, key_bytes * n_head_kv, value_bytes * n_head_kv, scratch)  # fmt: skip
            else:
                _attend_f32(q, q_stride, out, out_stride, first, n, row, n_rep, head, head_dim, scale, positions,
                            table, k, v, key_bytes * n_head_kv, value_bytes * n_head_kv, scratch)  # fmt: skip


@kernel
def store_kv_row(is_half, k_address, v_address, n_head_kv, head_dim, position, table, keys, values):
    """Write one token's keys and values, float32 (n_head_kv, head_dim), into its block of the cache."""
    wide = (head_dim + 15) // 16 * 16
    k = carray(as_float32(k_address), n_head_kv * head_dim)
    v = carray(as_float32(v_address), n_head_kv * head_dim)
    n_blocks = position // KV_BLOCK_SIZE + 1
    block = int(carray(as_int32(table), n_blocks)[n_blocks - 1])
    inside = position % KV_BLOCK_SIZE
    n_key, n_value = n_head_kv * head_dim * KV_BLOCK_SIZE, n_head_kv * KV_BLOCK_SIZE * wide
    if is_half:
        key_half = carray(as_uint16(keys + block * n_key * 2), n_key)
        value_half = carray(as_uint16(values + block * n_value * 2), n_value)
        for head in range(n_head_kv):
            for i in range(head_dim):
                key_half[(head * head_dim + i) * KV_BLOCK_SIZE + inside] = float32_to_half(
                    k[head * head_dim + i]
                )
                value_half[(head * KV_BLOCK_SIZE + inside) * wide + i] = float32_to_half(
                    v[head * head_dim + i]
                )
    else:
        key = carray(as_float32(keys + block * n_key * 4), n_key)
        value = carray(as_float32(values + block * n_value * 4), n_value)
        for head in range(n_head_kv):
            for i in range(head_dim):
                key[(head * head_dim + i) * KV_BLOCK_SIZE + inside] = k[head * head_dim + i]
                value[(head * KV_BLOCK_SIZE + inside) * wide + i] = v[head * head_dim + i]


@kernel
def scores_row(
    is_half, q_address, n_head, n_head_kv, head_dim, scale, position, table, keys, raw, weights, head_stride
):
    """Raw scores and softmax weights of one row, written out for a probe; later positions become 0.

    Args:
        raw, weights: float32, ``position + 1`` values per head, heads `head_stride` bytes apart.
    """
    item = 2 if is_half else 4
    key_bytes = KV_BLOCK_SIZE * head_dim * item
    n_rep = n_head // n_head_kv
    n_positions = position + 1
    for head in range(n_head):
        raw_row = carray(as_float32(raw + head * head_stride), n_positions)
        weight_row = carray(as_float32(weights + head * head_stride), n_positions)
        q = carray(as_float32(q_address + head * head_dim * 4), head_dim)
        highest = float32(-inf)
        for j in range(n_positions):
            block = int(carray(as_int32(table), j // KV_BLOCK_SIZE + 1)[j // KV_BLOCK_SIZE])
            at = keys + (block * n_head_kv + head // n_rep) * key_bytes
            total = float32(0)
            for i in range(head_dim):
                index = i * KV_BLOCK_SIZE + j % KV_BLOCK_SIZE
                if is_half:
                    total = fused_multiply_add(
                        q[i], half_to_float32(carray(as_uint16(at), index + 1)[index]), total
                    )
                else:
                    total = fused_multiply_add(q[i], carray(as_float32(at), index + 1)[index], total)
            raw_row[j] = total
            weight_row[j] = total * scale
            highest = max(highest, weight_row[j])
        weight_sum = float32(0)
        for j in range(n_positions):
            weight_row[j] = exp_float32(weight_row[j] - highest)
            weight_sum += weight_row[j]
        for j in range(n_positions):
            weight_row[j] /= weight_sum
