"""Causal attention over KV blocks: one pass with an online softmax, a few query heads at a time.

A block holds 32 positions: keys ``[head_dim][32]`` (transposed), values ``[32][head_dim, padded to 16]``. Up to
eight queries that share a KV head run together; what each of them computes does not depend on the others. Blocks
are visited in order of position, beginning anew with every part of the context (`ATTENTION_PART`), and parts are added
in order (`attend_parts`): a row's bits depend neither on the batch nor on who computes which part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import float32, inf

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32, atomic_add, atomic_store, float32_of_bits
from llorch.kernels.jit import Unit, inlined, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import ATTENTION_PART, FLOAT_LANES, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_blocks import FEW_QUERIES, QUERIES, make_attend_block
from llorch.kernels.ops.attend_llama_cpp import make_attend_llama_cpp
from llorch.kernels.ops.attend_operands import (
    HEAD_DIM,
    LAYER,
    N_HEAD,
    N_HEAD_KV,
    OUT,
    OUT_STRIDE,
    PART_OUTPUTS,
    PART_STATES,
    PARTS_DONE,
    Q_STRIDE,
    SCALE,
    Q,
)
from llorch.kernels.ops.attend_parts import PartBuffers, add_part, keep_part, merge_parts, store_output
from llorch.kernels.program import Program, float_bits


def attend(
    program: Program, layer: int, q: Rows, out: Rows, n_head: int, n_head_kv: int, head_dim: int, kv: KVType,
    parts: PartBuffers,
) -> None:  # fmt: skip
    """Write causal attention of q over the cache.

    Args:
        program: gets the instruction.
        layer: its layer.
        q, out: float32 (n_rows, n_head * head_dim).
        n_head, n_head_kv, head_dim: sizes.
        kv: number type of the cache.
        parts: where threads leave what others add up.
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
        PART_OUTPUTS: int(parts.outputs.ctypes.data),
        PART_STATES: int(parts.states.ctypes.data),
        PARTS_DONE: int(parts.done.ctypes.data),
    }
    runs = _RUNS_LLAMA_CPP if paths.sums() == "llama.cpp" else _RUNS
    program.add(runs[kv], "attend", layer, values, keep=(q, out, parts))


class Scratch(NamedTuple):
    """A thread's scratch: addresses, and at last its end.

    queries: float32 (QUERIES, head_dim). outputs, part_outputs: float32 (QUERIES, padded head_dim), of all parts so
    far and of the part after them. state, part_state: float32 (QUERIES, 2), highest score and sum of weights of the
    same. scores: float32 (QUERIES, 32). factors: float32 (QUERIES,).
    """

    queries: int
    outputs: int
    part_outputs: int
    state: int
    part_state: int
    scores: int
    factors: int
    end: int


def _areas(scratch: int, head_dim: int) -> Scratch:
    output_bytes = QUERIES * ((head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES) * 4
    outputs = scratch + QUERIES * head_dim * 4
    state = outputs + 2 * output_bytes
    scores = state + QUERIES * 16
    factors = scores + QUERIES * KV_BLOCK_SIZE * 4
    return Scratch(
        scratch, outputs, outputs + output_bytes, state, state + QUERIES * 8, scores, factors,
        factors + QUERIES * 4)  # fmt: skip


def scratch_bytes(head_dim: int) -> int:
    """Bytes of scratch that each thread needs."""
    return _areas(0, head_dim).end


_scratch_areas = inlined(_areas)


class Heads(NamedTuple):
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
def _load_queries(h, first, n, queries):
    """Copy `n` queries into scratch."""
    to = as_float32(queries)
    for m in range(n):
        i = first + m
        source = as_float32(h.q + i // h.n_rep * h.q_stride + i % h.n_rep * h.head_dim * 4)
        for c in range(h.head_dim):
            to[m * h.head_dim + c] = source[c]


@kernel
def _begin_part(n, padded, outputs, state):
    """Begin the outputs and softmax states of `n` queries."""
    out, maximum_and_sum = as_float32(outputs), as_float32(state)
    for m in range(n):
        maximum_and_sum[2 * m] = float32(-inf)
        maximum_and_sum[2 * m + 1] = float32(0)
    for c in range(n * padded):
        out[c] = float32(0)


@kernel
def _store_outputs(h, first, n, outputs, state):
    """Write `n` finished queries into their rows."""
    for m in range(n):
        i = first + m
        out = h.out + i // h.n_rep * h.out_stride + i % h.n_rep * h.head_dim * 4
        store_output(outputs + m * h.padded * 4, state + m * 8, out, h.head_dim)


def _make_attend_queries(kv: KVType) -> Any:
    attend_block = make_attend_block(kv)

    @kernel
    def attend_queries(h, first, n, blocks, scale, area, first_part, last_part):
        """Sum queries ``first <= i < first + n`` (`Heads`), `n` <= QUERIES, over those positions of parts
        ``first_part <= part < last_part`` that they see, into `area`."""
        _load_queries(h, first, n, area.queries)
        position, block_of = as_int32(h.positions), as_int32(blocks.table)
        n_positions = min(position[(first + n - 1) // h.n_rep] + 1, last_part * ATTENTION_PART)
        outputs, state = area.outputs, area.state
        for begin in range(first_part * ATTENTION_PART, n_positions, ATTENTION_PART):
            end = min(begin + ATTENTION_PART, n_positions)
            _begin_part(n, h.padded, outputs, state)
            for start in range(begin, end, KV_BLOCK_SIZE):
                block = block_of[start // KV_BLOCK_SIZE]
                key, value = (
                    blocks.keys + block * blocks.key_bytes,
                    blocks.values + block * blocks.value_bytes,
                )
                n_block = min(KV_BLOCK_SIZE, end - start)
                attend_block(h, first, n, key, value, start, n_block, scale, area, outputs, state)
            if outputs != area.outputs:
                for m in range(n):
                    if position[(first + m) // h.n_rep] >= begin:
                        add_part(
                            area.outputs + m * h.padded * 4, area.state + m * 8, outputs + m * h.padded * 4,
                            state + m * 8, h.padded)  # fmt: skip
            outputs, state = area.part_outputs, area.part_state

    return attend_queries


def _make_run(kv: KVType) -> Unit:
    attend_queries = _make_attend_queries(kv)
    item, is_widened = kv.item_bytes, kv.is_widened

    @operation(f"attention over {kv.name}", name=f"attend_{kv.name}")
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """q, out: float32 (n_rows, n_head, head_dim). Threads claim pairs of a task and a KV head.

        positions, slots: int32 (n_rows,). tables: int32 block tables, one row per slot. tasks: int32 (n_tasks, 4),
        see `model.attention_tasks`. keys, values: (n_layer, n_blocks, n_head_kv, ...).
        """
        head_dim, n_head, n_head_kv = o[HEAD_DIM], o[N_HEAD], o[N_HEAD_KV]
        n_rep = n_head // n_head_kv
        padded = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES
        key_bytes, value_bytes = KV_BLOCK_SIZE * head_dim * item, KV_BLOCK_SIZE * padded * item
        keys = s[st.KEYS] + o[LAYER] * s[st.LAYER_KEY_BYTES]
        values = s[st.VALUES] + o[LAYER] * s[st.LAYER_VALUE_BYTES]
        tasks, slots, position = as_int32(s[st.TASKS]), as_int32(s[st.SLOTS]), as_int32(s[st.POSITIONS])
        scale = float32_of_bits(o[SCALE])
        area = _scratch_areas(scratch, head_dim)
        work = atomic_add(counter, 1)
        while work < s[st.N_TASKS] * n_head_kv:
            task, head = work // n_head_kv * 4, work % n_head_kv
            row, n_group, part, at = (
                int(tasks[task]),
                int(tasks[task + 1]),
                int(tasks[task + 2]),
                int(tasks[task + 3]),
            )
            n_queries, n_parts = n_group * n_rep, position[row + n_group - 1] // ATTENTION_PART + 1
            to_head = head * n_rep * head_dim * 4
            h = Heads(
                o[Q] + row * o[Q_STRIDE] + to_head, o[Q_STRIDE], o[OUT] + row * o[OUT_STRIDE] + to_head,
                o[OUT_STRIDE], s[st.POSITIONS] + row * 4, n_rep, head_dim, padded)  # fmt: skip
            blocks = _Blocks(
                s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE], keys + head * key_bytes, key_bytes * n_head_kv,
                values + head * value_bytes, value_bytes * n_head_kv)  # fmt: skip
            first_kept = at * n_head + head * n_queries
            first = 0
            while first < n_queries:
                left = n_queries - first
                n = QUERIES if is_widened and left >= QUERIES else min(FEW_QUERIES, left)
                if part < 0:
                    attend_queries(h, first, n, blocks, scale, area, 0, n_parts)
                    _store_outputs(h, first, n, area.outputs, area.state)
                else:
                    attend_queries(h, first, n, blocks, scale, area, part, part + 1)
                    kept = first_kept + part * n_group * n_head + first
                    keep_part(
                        n, padded, area.outputs, area.state, o[PART_OUTPUTS] + kept * padded * 4,
                        o[PART_STATES] + kept * 8)  # fmt: skip
                first += n
            done = o[PARTS_DONE] + (at * n_head_kv + head) * 8
            if part >= 0 and atomic_add(done, 1) == n_parts - 1:
                atomic_store(done, 0)
                merge_parts(
                    h, n_group, o[PART_OUTPUTS] + first_kept * padded * 4, o[PART_STATES] + first_kept * 8,
                    n_group * n_head)  # fmt: skip
            work = atomic_add(counter, 1)

    return run


_RUNS = {kv: _make_run(kv) for kv in KV_TYPES.values()}
_RUNS_LLAMA_CPP = {kv: make_attend_llama_cpp(kv) for kv in KV_TYPES.values()}
