"""Causal attention over KV blocks: one pass with an online softmax, a few query heads at a time.

A block holds 32 positions: keys ``[head_dim][32]`` (transposed), values ``[32][head_dim, padded to 16]``. Up to
eight queries that share a KV head run together; what each of them computes does not depend on the others. Blocks
are visited in order of position, beginning anew with every part of the context (`ATTENTION_PART`), and parts are added
in order (`attend_parts`): a row's bits depend neither on the batch nor on who computes which part.
"""

from __future__ import annotations

import numpy as np

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_int32, atomic_add, atomic_store
from llorch.kernels.jit import Unit, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import ATTENTION_PART, FLOAT_LANES, KV_BLOCK_SIZE
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
from llorch.kernels.ops.attend_parts import PartBuffers, keep_part, merge_parts
from llorch.kernels.ops.attend_queries import Blocks, Heads, make_attend_queries, scratch_areas, store_outputs
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


def _make_run(kv: KVType) -> Unit:
    attend_queries = make_attend_queries(kv)
    item = kv.item_bytes

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
        scale = o[SCALE]
        area = scratch_areas(scratch, n_rep, head_dim)
        work = atomic_add(counter, 1)
        while work < s[st.N_TASKS] * n_head_kv:
            task, head = work // n_head_kv * 4, work % n_head_kv
            row, n_group = int(tasks[task]), int(tasks[task + 1])
            part, at = int(tasks[task + 2]), int(tasks[task + 3])
            n_queries, n_parts = n_group * n_rep, position[row + n_group - 1] // ATTENTION_PART + 1
            to_head = head * n_rep * head_dim * 4
            h = Heads(
                o[Q] + row * o[Q_STRIDE] + to_head, o[Q_STRIDE], o[OUT] + row * o[OUT_STRIDE] + to_head,
                o[OUT_STRIDE], s[st.POSITIONS] + row * 4, n_rep, head_dim, padded)  # fmt: skip
            blocks = Blocks(
                s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE], keys + head * key_bytes, s[st.BLOCK_KEY_BYTES],
                values + head * value_bytes, s[st.BLOCK_VALUE_BYTES])  # fmt: skip
            first_kept = at * n_head + head * n_queries
            if part < 0:
                attend_queries(h, n_queries, blocks, scale, area, 0, n_parts)
                store_outputs(h, n_queries, area.outputs, area.state)
            else:
                attend_queries(h, n_queries, blocks, scale, area, part, part + 1)
                kept = first_kept + part * n_group * n_head
                keep_part(
                    n_queries, padded, area.outputs, area.state, o[PART_OUTPUTS] + kept * padded * 4,
                    o[PART_STATES] + kept * 8)  # fmt: skip
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
