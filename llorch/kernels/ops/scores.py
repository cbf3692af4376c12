"""Raw scores and softmax weights of attention, written out for a probe; the fast path never has them in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import float32, inf

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32, float32_of_bits, fused_multiply_add
from llorch.kernels.emit.vectors import exp_float32
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.kernels.ops.attend_llama_cpp import Keys, make_weigh
from llorch.kernels.program import Program, float_bits, operands

Q, Q_STRIDE, N_HEAD, N_HEAD_KV, HEAD_DIM, SCALE, LAYER = operands(7)

LABEL = "scores"
"""Of the instruction, by which an observed step finds it."""


def scores(
    program: Program, layer: int, q: Rows, n_head: int, n_head_kv: int, head_dim: int, kv: KVType
) -> None:
    """Write raw scores and softmax weights of q with the cache, into the step's score buffers.

    Args:
        program: gets the instruction.
        layer: its layer.
        q: float32 (n_rows, n_head * head_dim).
        n_head, n_head_kv, head_dim: sizes.
        kv: number type of the cache.
    """
    values = {
        Q: q.address,
        Q_STRIDE: q.stride,
        N_HEAD: n_head,
        N_HEAD_KV: n_head_kv,
        HEAD_DIM: head_dim,
        SCALE: float_bits(1.0 / np.sqrt(np.float32(head_dim))),
        LAYER: layer,
    }
    runs = _RUNS_LLAMA_CPP if paths.sums() == "llama.cpp" else _RUNS
    program.add(runs[kv], LABEL, layer, values, keep=(q,))


def _make_weigh(kv: KVType) -> Any:
    """As `attend_llama_cpp.make_weigh`, in the order of the fast path."""
    read = kv.read

    @kernel
    def weigh(q, head_dim, scale, keys, n, raw, weights, lanes):
        query, block_of = as_float32(q), as_int32(keys.table)
        highest = float32(-inf)
        for j in range(n):
            block = keys.address + block_of[j // KV_BLOCK_SIZE] * keys.block_bytes
            total = float32(0)
            for i in range(head_dim):
                total = fused_multiply_add(
                    query[i], read(block, i * KV_BLOCK_SIZE + j % KV_BLOCK_SIZE), total
                )
            raw[j] = total
            weights[j] = total * scale
            highest = max(highest, weights[j])
        weight_sum = float32(0)
        for j in range(n):
            weights[j] = exp_float32(weights[j] - highest)
            weight_sum += weights[j]
        for j in range(n):
            weights[j] /= weight_sum

    return weigh


def _make_run(title: str, name: str, kv: KVType, weigh: Any) -> Unit:
    item = kv.item_bytes

    @operation(title, name=name)
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """q: float32 (n_rows, n_head, head_dim). Raw scores and weights: float32 (n_head, n_rows, n_positions) each."""
        n_head, n_head_kv, head_dim = o[N_HEAD], o[N_HEAD_KV], o[HEAD_DIM]
        positions, slots = as_int32(s[st.POSITIONS]), as_int32(s[st.SLOTS])
        layer_keys = s[st.KEYS] + o[LAYER] * s[st.LAYER_KEY_BYTES]
        key_bytes = KV_BLOCK_SIZE * head_dim * item
        for row in range(ith, n_rows, nth):
            table = s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE]
            for head in range(n_head):
                at = row * s[st.SCORES_ROW_STRIDE] + head * s[st.SCORES_HEAD_STRIDE]
                raw, weights = as_float32(s[st.SCORES_RAW] + at), as_float32(s[st.SCORES_WEIGHTS] + at)
                keys = Keys(
                    table, layer_keys + head // (n_head // n_head_kv) * key_bytes, key_bytes * n_head_kv
                )
                q = o[Q] + row * o[Q_STRIDE] + head * head_dim * 4
                scale = float32_of_bits(o[SCALE])
                weigh(q, head_dim, scale, keys, positions[row] + 1, raw, weights, as_float32(scratch))

    return run


_RUNS = {
    kv: _make_run(f"scores with {kv.name}", f"scores_{kv.name}", kv, _make_weigh(kv))
    for kv in KV_TYPES.values()
}
_RUNS_LLAMA_CPP = {
    kv: _make_run(
        f"scores with {kv.name} in llama.cpp's order", f"scores_{kv.name}_llama_cpp", kv, make_weigh(kv)
    )
    for kv in KV_TYPES.values()
}
