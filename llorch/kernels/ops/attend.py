"""Causal attention over KV blocks: one pass with an online softmax, a few query heads at a time.

A block holds 32 positions: keys ``[head_dim][32]`` (transposed), values ``[32][head_dim, padded to 16]``. Up to
eight queries that share a KV head run together; what each of them computes does not depend on the others, and
blocks are visited in order of position, so a row's bits never depend on the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import float32, inf

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32, atomic_add, float32_of_bits
from llorch.kernels.emit.vectors import softmax_block
from llorch.kernels.jit import Unit, inlined, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import FLOAT_LANES, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_blocks import make_scores, make_values
from llorch.kernels.ops.attend_llama_cpp import make_attend_llama_cpp
from llorch.kernels.ops.attend_operands import (
    HEAD_DIM,
    LAYER,
    N_HEAD,
    N_HEAD_KV,
    OUT,
    OUT_STRIDE,
    Q_STRIDE,
    SCALE,
    Q,
)
from llorch.kernels.program import Program, float_bits

QUERIES = 8
"""Most queries that run together: a key or value that must be widened is widened once for all of them."""

FEW_QUERIES = 4
"""Queries that run together where nothing is widened, and where fewer than eight are left."""


def attend(
    program: Program, layer: int, q: Rows, out: Rows, n_head: int, n_head_kv: int, head_dim: int, kv: KVType
) -> None:
    """Write causal attention of q over the cache.

    Args:
        program: gets the instruction.
        layer: its layer.
        q, out: float32 (n_rows, n_head * head_dim).
        n_head, n_head_kv, head_dim: sizes.
        kv: number type of the cache.
    """
    values = {
        Q: q.address,
        Q_STRIDE: q.stride,
        OUT: out.address,
        OUT_STRIDE: out.stride,
        N_HEAD: n_head,
        N_HEAD_KV: n_head_kv,
        HEAD_DIM: head_dim,
        SCALE: float_bits(1.0 / np.sqrt(np.float32(head_dim))),
        LAYER: layer,
    }
    runs = _RUNS_LLAMA_CPP if paths.sums() == "llama.cpp" else _RUNS
    program.add(runs[kv], "attend", layer, values, keep=(q, out))


def scratch_areas(head_dim: int) -> tuple[int, int, int, int, int]:
    """A thread's scratch: where outputs, scores, factors and softmax state begin after the queries, and its size.

    queries: float32 (QUERIES, head_dim). outputs: float32 (QUERIES, padded head_dim). scores: float32 (QUERIES, 32).
    factors: float32 (QUERIES,). state: float32 (QUERIES, 2), running maximum and sum.
    """
    outputs = QUERIES * head_dim * 4
    scores = outputs + QUERIES * ((head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES) * 4
    factors = scores + QUERIES * KV_BLOCK_SIZE * 4
    state = factors + QUERIES * 4
    return outputs, scores, factors, state, state + QUERIES * 8


_scratch_areas = inlined(scratch_areas)


class _Heads(NamedTuple):
    """Query heads of some rows of one sequence that share a KV head; query `i` is head ``i % n_rep`` of row ``i //
    n_rep``.

    q, out: addresses of the first row's heads; q_stride, out_stride: bytes per row; positions: address of the rows'
    int32 positions.
    """

    q: int
    q_stride: int
    out: int
    out_stride: int
    positions: int
    n_rep: int
    head_dim: int
    padded: int


class _Blocks(NamedTuple):
    """The blocks of one sequence: address of its int32 block table; addresses and strides of keys and values."""

    table: int
    keys: int
    key_bytes: int
    values: int
    value_bytes: int


@kernel
def _load_queries(h, first, n, queries, outputs, state):
    """Copy `n` queries into scratch, and begin their outputs and softmax states."""
    to, out, maximum_and_sum = as_float32(queries), as_float32(outputs), as_float32(state)
    for m in range(n):
        i = first + m
        source = as_float32(h.q + i // h.n_rep * h.q_stride + i % h.n_rep * h.head_dim * 4)
        for c in range(h.head_dim):
            to[m * h.head_dim + c] = source[c]
        maximum_and_sum[2 * m] = float32(-inf)
        maximum_and_sum[2 * m + 1] = float32(0)
    for c in range(n * h.padded):
        out[c] = float32(0)


@kernel
def _store_outputs(h, first, n, outputs, state):
    """Divide the weighted sums by the sums of weights, into the rows."""
    mixed, maximum_and_sum = as_float32(outputs), as_float32(state)
    for m in range(n):
        i = first + m
        target = as_float32(h.out + i // h.n_rep * h.out_stride + i % h.n_rep * h.head_dim * 4)
        inverse = float32(1) / maximum_and_sum[2 * m + 1]
        for c in range(h.head_dim):
            target[c] = mixed[m * h.padded + c] * inverse


def _make_attend_queries(kv: KVType) -> Any:
    scores_4, scores_1 = make_scores(FEW_QUERIES, kv), make_scores(1, kv)
    mix_4, mix_1 = make_values(FEW_QUERIES, 4, kv), make_values(1, 4, kv)
    scores_8 = make_scores(QUERIES, kv) if kv.is_widened else scores_4
    mix_8 = make_values(QUERIES, 2, kv) if kv.is_widened else mix_4
    row_bytes = KV_BLOCK_SIZE * 4

    @kernel
    def attend_queries(h, first, n, blocks, scale, queries):
        """Attend with queries ``first <= i < first + n`` (`_Heads`), `n` <= QUERIES, over all positions they see."""
        to_outputs, to_scores, to_factors, to_state, _ = _scratch_areas(h.head_dim)
        outputs, scores, factors, state = (
            queries + to_outputs, queries + to_scores, queries + to_factors, queries + to_state)  # fmt: skip
        _load_queries(h, first, n, queries, outputs, state)
        position, block_of = as_int32(h.positions), as_int32(blocks.table)
        n_positions = position[(first + n - 1) // h.n_rep] + 1
        for start in range(0, n_positions, KV_BLOCK_SIZE):
            block = block_of[start // KV_BLOCK_SIZE]
            key, value = blocks.keys + block * blocks.key_bytes, blocks.values + block * blocks.value_bytes
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
            n_block = min(KV_BLOCK_SIZE, n_positions - start)
            if n == QUERIES:
                mix_8(scores, n_block, value, h.padded, factors, outputs)
            elif n == FEW_QUERIES:
                mix_4(scores, n_block, value, h.padded, factors, outputs)
            else:
                for m in range(n):
                    to = outputs + m * h.padded * 4
                    mix_1(scores + m * row_bytes, n_block, value, h.padded, factors + m * 4, to)
        _store_outputs(h, first, n, outputs, state)

    return attend_queries


def _make_run(kv: KVType) -> Unit:
    attend_queries = _make_attend_queries(kv)
    item, is_widened = kv.item_bytes, kv.is_widened

    @operation(f"attention over {kv.name}", name=f"attend_{kv.name}")
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """q, out: float32 (n_rows, n_head, head_dim). Threads claim pairs of a group of rows and a KV head.

        positions, slots: int32 (n_rows,). tables: int32 block tables, one row per slot. groups: int32 (n_groups, 2),
        first row and number of rows of runs that belong to one sequence. keys, values: (n_layer, n_blocks, n_head_kv,
        ...).
        """
        head_dim, n_head_kv, n_groups = o[HEAD_DIM], o[N_HEAD_KV], s[st.N_GROUPS]
        n_rep = o[N_HEAD] // n_head_kv
        padded = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES
        key_bytes, value_bytes = KV_BLOCK_SIZE * head_dim * item, KV_BLOCK_SIZE * padded * item
        keys = s[st.KEYS] + o[LAYER] * s[st.LAYER_KEY_BYTES]
        values = s[st.VALUES] + o[LAYER] * s[st.LAYER_VALUE_BYTES]
        groups, slots = as_int32(s[st.GROUPS]), as_int32(s[st.SLOTS])
        scale = float32_of_bits(o[SCALE])
        work = atomic_add(counter, 1)
        while work < n_groups * n_head_kv:
            # Late rows see more positions: hand them out first.
            group, head = n_groups - 1 - work // n_head_kv, work % n_head_kv
            row, n_queries = int(groups[2 * group]), int(groups[2 * group + 1]) * n_rep
            to_head = head * n_rep * head_dim * 4
            h = _Heads(
                o[Q] + row * o[Q_STRIDE] + to_head, o[Q_STRIDE], o[OUT] + row * o[OUT_STRIDE] + to_head,
                o[OUT_STRIDE], s[st.POSITIONS] + row * 4, n_rep, head_dim, padded)  # fmt: skip
            blocks = _Blocks(
                s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE], keys + head * key_bytes, key_bytes * n_head_kv,
                values + head * value_bytes, value_bytes * n_head_kv)  # fmt: skip
            first = 0
            while first < n_queries:
                left = n_queries - first
                n = QUERIES if is_widened and left >= QUERIES else min(FEW_QUERIES, left)
                attend_queries(h, first, n, blocks, scale, scratch)
                first += n
            work = atomic_add(counter, 1)

    return run


_RUNS = {kv: _make_run(kv) for kv in KV_TYPES.values()}
_RUNS_LLAMA_CPP = {kv: make_attend_llama_cpp(kv) for kv in KV_TYPES.values()}
