"""Raw scores of attention, written out for the observed program; the fast path (`attend`) never has them in memory."""

from __future__ import annotations

from typing import Any

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64
from llorch.kernels.jit import Unit, inlined, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.kernels.ops.attend_blocks import make_scores
from llorch.kernels.ops.attend_llama_cpp import Keys, make_raw_scores
from llorch.kernels.program import Program, operands

Q, Q_STRIDE, N_HEAD, N_HEAD_KV, HEAD_DIM, LAYER = operands(6)

LABEL = "scores"
"""Of the instruction, by which an observed step finds it."""


def scores(
    program: Program, layer: int, q: Rows, n_head: int, n_head_kv: int, head_dim: int, kv: KVType
) -> None:
    """Write raw scores of q with the cache, into the step's score buffer.

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
        LAYER: layer,
    }
    runs = _RUNS_LLAMA_CPP if paths.sums() == "llama.cpp" else _RUNS
    program.add(runs[kv], LABEL, layer, values, keep=(q,))


@inlined
def score_row(s, row, head):
    """Where the scores of a query begin, in bytes after the score buffers; they are float32 (n_head, n_rows, n)."""
    return row * s[st.SCORES_ROW_STRIDE] + head * s[st.SCORES_HEAD_STRIDE]


def _make_raw_scores(kv: KVType) -> Any:
    """As `attend_llama_cpp.make_raw_scores`, in the order of the fast path."""
    block_scores = make_scores(1, 1, kv)

    @kernel
    def raw_scores(q, head_dim, keys, n, raw, scratch):
        block_of, block, addresses = as_int32(keys.table), as_float32(scratch), scratch + KV_BLOCK_SIZE * 4
        address = as_int64(addresses)
        for start in range(0, n, KV_BLOCK_SIZE):
            address[0] = keys.address + block_of[start // KV_BLOCK_SIZE] * keys.block_bytes
            block_scores(q, head_dim, addresses, addresses, scratch)
            for j in range(min(KV_BLOCK_SIZE, n - start)):
                raw[start + j] = block[j]

    return raw_scores


def _make_run(kv: KVType, raw_scores: Any, order: str = "", suffix: str = "") -> Unit:
    item = kv.item_bytes

    @operation(f"scores with {kv.name}{order}", name=f"scores_{kv.name}{suffix}")
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """q: float32 (n_rows, n_head, head_dim). Raw scores: float32 (n_head, n_rows, n_positions)."""
        n_head, n_head_kv, head_dim = o[N_HEAD], o[N_HEAD_KV], o[HEAD_DIM]
        positions, slots = as_int32(s[st.POSITIONS]), as_int32(s[st.SLOTS])
        layer_keys = s[st.KEYS] + o[LAYER] * s[st.LAYER_KEY_BYTES]
        key_bytes = KV_BLOCK_SIZE * head_dim * item
        for work in range(ith, n_rows * n_head, nth):
            row, head = work // n_head, work % n_head
            table = s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE]
            keys = Keys(table, layer_keys + head // (n_head // n_head_kv) * key_bytes, s[st.BLOCK_KEY_BYTES])
            q = o[Q] + row * o[Q_STRIDE] + head * head_dim * 4
            raw = as_float32(s[st.SCORES_RAW] + score_row(s, row, head))
            raw_scores(q, head_dim, keys, positions[row] + 1, raw, scratch)

    return run


_RUNS = {kv: _make_run(kv, _make_raw_scores(kv)) for kv in KV_TYPES.values()}
_RUNS_LLAMA_CPP = {
    kv: _make_run(kv, make_raw_scores(kv), " in llama.cpp's order", "_llama_cpp") for kv in KV_TYPES.values()
}
