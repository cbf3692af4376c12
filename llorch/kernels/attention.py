"""Causal attention over KV blocks: one pass with an online softmax, a few query heads at a time.

A block holds 32 positions: keys ``[head_dim][32]`` (transposed), values ``[32][head_dim, padded to 16]``. Up to
eight queries that share a KV head run together; what each of them computes does not depend on the others, and
blocks are visited in order of position, so a row's bits never depend on the batch.
"""

from __future__ import annotations

from typing import Any

from numba import carray
from numpy import float32, inf

from llorch.kernels.attention_dot import KV_BLOCK_SIZE, LANES, make_scores, make_values
from llorch.kernels.convert import float32_to_half
from llorch.kernels.intrinsics import (
    as_float32,
    as_int32,
    as_uint16,
    atomic_add,
    fused_multiply_add,
    half_to_float32,
)
from llorch.kernels.jit import kernel, piece
from llorch.kernels.vectors import exp_float32, softmax_block

QUERIES = 8
"""Most queries that run together: a float16 key or value is widened once for all of them."""

_SOME = 4
"""Queries that run together where nothing is widened, and where fewer than eight are left."""


def padded_head_dim(head_dim: int) -> int:
    """`head_dim` rounded up to whole vectors; values and outputs are stored that wide."""
    return -(-head_dim // LANES) * LANES


def scratch_bytes(head_dim: int) -> int:
    """Bytes of scratch one thread needs in `attend`: queries, outputs, scores and softmax state."""
    return QUERIES * 4 * (head_dim + padded_head_dim(head_dim) + KV_BLOCK_SIZE + 3) + 64


def _make_attend(is_half: bool) -> Any:
    scores_4, scores_1 = make_scores(_SOME, is_half), make_scores(1, is_half)
    mix_4, mix_1 = make_values(_SOME, 4, is_half), make_values(1, 4, is_half)
    scores_8 = make_scores(QUERIES, is_half) if is_half else scores_4
    mix_8 = make_values(QUERIES, 2, is_half) if is_half else mix_4

    @kernel
    def attend_queries(q, q_stride, out, out_stride, first, n, row, n_rep, head, head_dim, scale, positions,
                       table, keys, values, key_bytes, value_bytes, scratch):  # fmt: skip
        """`n` <= 8 queries, numbered from `first` within the rows starting at `row`, on one KV head."""
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
                scores_8(scratch, head_dim, key, scores_at)
            elif n == _SOME:
                scores_4(scratch, head_dim, key, scores_at)
            else:
                for m in range(n):
                    scores_1(scratch + m * head_dim * 4, head_dim, key, scores_at + m * KV_BLOCK_SIZE * 4)
            for m in range(n):
                n_valid = position[row + (first + m) // n_rep] + 1 - start
                softmax_block(
                    scores_at + m * KV_BLOCK_SIZE * 4, n_valid, scale, state_at + m * 8, factor_at + m * 4
                )
            if n == QUERIES:
                mix_8(scores_at, n_block, value, wide, factor_at, mixed_at)
            elif n == _SOME:
                mix_4(scores_at, n_block, value, wide, factor_at, mixed_at)
            else:
                for m in range(n):
                    p = scores_at + m * KV_BLOCK_SIZE * 4
                    mix_1(p, n_block, value, wide, factor_at + m * 4, mixed_at + m * wide * 4)
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
        first = 0
        while first < n_queries:
            n = QUERIES if is_half and n_queries - first >= QUERIES else min(_SOME, n_queries - first)
            if is_half:
                _attend_f16(q, q_stride, out, out_stride, first, n, row, n_rep, head, head_dim, scale, positions,
                            table, k, v, key_bytes * n_head_kv, value_bytes * n_head_kv, scratch)  # fmt: skip
            else:
                _attend_f32(q, q_stride, out, out_stride, first, n, row, n_rep, head, head_dim, scale, positions,
                            table, k, v, key_bytes * n_head_kv, value_bytes * n_head_kv, scratch)  # fmt: skip
            first += n


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
