"""Sums of values by softmax weights, written out for the observed program.

They are added position by position; the fast path (`attend`) adds them with weights that are not normalised yet, so its
bits are others. An observed step goes on with those of `attend`, which replaces what this operation has written.
"""

from __future__ import annotations

from typing import Any

from numpy import float32

from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import FLOAT_LANES, KV_BLOCK_SIZE
from llorch.kernels.ops.attend_blocks import make_values
from llorch.kernels.ops.attend_llama_cpp import Values, make_mix
from llorch.kernels.ops.scores import score_row
from llorch.kernels.program import Program, operands

OUT, OUT_STRIDE, N_HEAD, N_HEAD_KV, HEAD_DIM, LAYER = operands(6)


def values(
    program: Program, layer: int, out: Rows, n_head: int, n_head_kv: int, head_dim: int, kv: KVType
) -> None:
    """Write the weighted sums of values, by the weights in the step's score buffer.

    Args:
        program: gets the instruction.
        layer: its layer.
        out: float32 (n_rows, n_head * head_dim).
        n_head, n_head_kv, head_dim: sizes.
        kv: number type of the cache.
    """
    operands = {
        OUT: out.address,
        OUT_STRIDE: out.stride,
        N_HEAD: n_head,
        N_HEAD_KV: n_head_kv,
        HEAD_DIM: head_dim,
        LAYER: layer,
    }
    runs = _RUNS_LLAMA_CPP if paths.sums() == "llama.cpp" else _RUNS
    program.add(runs[kv], "values", layer, operands, keep=(out,))


def _make_sum_row(kv: KVType) -> Any:
    """As `_make_sum_row_llama_cpp`, with the micro-kernel of the fast path."""
    mix = make_values(1, kv)

    @kernel
    def sum_row(weights, n, v, head_dim, out, scratch):
        """`weights`: address of float32 (n,). `out`: address of float32 (head_dim,)."""
        factor, sums, block_of, to = as_float32(scratch), scratch + 64, as_int32(v.table), as_float32(out)
        factor[0] = float32(1)
        address = as_int64(scratch)
        total = as_float32(sums)
        for c in range(v.padded):
            total[c] = float32(0)
        for start in range(0, n, KV_BLOCK_SIZE):
            address[1] = v.address + block_of[start // KV_BLOCK_SIZE] * v.block_bytes
            at, n_now = weights + start * 4, min(KV_BLOCK_SIZE, n - start)
            mix(at, 1, n_now, scratch + 8, scratch + 8, v.padded, scratch, sums)
        for c in range(head_dim):
            to[c] = total[c]

    return sum_row


def _make_sum_row_llama_cpp(kv: KVType) -> Any:
    mix = make_mix(kv)

    @kernel
    def sum_row(weights, n, v, head_dim, out, scratch):
        to = as_float32(out)
        for column in range(head_dim):
            to[column] = mix(as_float32(weights), n, v, column, as_float32(scratch))

    return sum_row


def _make_run(kv: KVType, sum_row: Any, order: str = "", suffix: str = "") -> Unit:
    item = kv.item_bytes

    @operation(f"values of {kv.name}{order}", name=f"values_{kv.name}{suffix}")
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """Weights: float32 (n_head, n_rows, n_positions). out: float32 (n_rows, n_head, head_dim)."""
        n_head, n_head_kv, head_dim = o[N_HEAD], o[N_HEAD_KV], o[HEAD_DIM]
        padded = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES
        positions, slots = as_int32(s[st.POSITIONS]), as_int32(s[st.SLOTS])
        layer_values = s[st.VALUES] + o[LAYER] * s[st.LAYER_VALUE_BYTES]
        value_bytes = KV_BLOCK_SIZE * padded * item
        for work in range(ith, n_rows * n_head, nth):
            row, head = work // n_head, work % n_head
            table = s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE]
            first = layer_values + head // (n_head // n_head_kv) * value_bytes
            v = Values(table, first, s[st.BLOCK_VALUE_BYTES], padded)
            weights = s[st.SCORES_WEIGHTS] + score_row(s, row, head)
            out = o[OUT] + row * o[OUT_STRIDE] + head * head_dim * 4
            sum_row(weights, positions[row] + 1, v, head_dim, out, scratch)

    return run


_RUNS = {kv: _make_run(kv, _make_sum_row(kv)) for kv in KV_TYPES.values()}
_RUNS_LLAMA_CPP = {
    kv: _make_run(kv, _make_sum_row_llama_cpp(kv), " in llama.cpp's order", "_llama_cpp")
    for kv in KV_TYPES.values()
}
