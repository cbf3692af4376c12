"""Appending keys and values to the KV cache, alone (`store`) or right after RoPE (`rope_store`)."""

from __future__ import annotations

from typing import Any

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_float32, as_int32
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import FLOAT_LANES, KV_BLOCK_SIZE
from llorch.kernels.ops.rope import rope_row, rope_table_row
from llorch.kernels.program import Program, operands

K, K_STRIDE, V, V_STRIDE, N_HEAD_KV, HEAD_DIM, LAYER, Q, Q_STRIDE, N_HEAD, N_ROT = operands(11)
"""The last four are `rope_store`'s."""


def store(program: Program, layer: int, k: Rows, v: Rows, n_head_kv: int, head_dim: int, kv: KVType) -> None:
    """Write k, v into the cache.

    Args:
        program: gets the instruction.
        layer: its layer.
        k, v: float32 (n_rows, n_head_kv * head_dim).
        n_head_kv, head_dim: sizes.
        kv: number type of the cache.
    """
    program.add(_STORE[kv], "store", layer, _values(layer, k, v, n_head_kv, head_dim), keep=(k, v))


def rope_store(
    program: Program, layer: int, q: Rows, k: Rows, v: Rows, n_head: int, n_head_kv: int, head_dim: int, n_rot: int,
    kv: KVType,
) -> None:  # fmt: skip
    """Rotate q and k in place (`ops.rope`), then write k, v into the cache.

    Args:
        program: gets the instruction.
        layer: its layer.
        q: float32 (n_rows, n_head * head_dim), changed.
        k: float32 (n_rows, n_head_kv * head_dim), changed.
        v: as k; not changed.
        n_head, n_head_kv, head_dim: sizes.
        n_rot: components of each head that are rotated.
        kv: number type of the cache.
    """
    values = _values(layer, k, v, n_head_kv, head_dim)
    values |= {Q: q.address, Q_STRIDE: q.stride, N_HEAD: n_head, N_ROT: n_rot}
    program.add(_ROPE_STORE[kv], "rope_store", layer, values, keep=(q, k, v))


def _values(layer: int, k: Rows, v: Rows, n_head_kv: int, head_dim: int) -> dict[int, int]:
    return {
        K: k.address,
        K_STRIDE: k.stride,
        V: v.address,
        V_STRIDE: v.stride,
        N_HEAD_KV: n_head_kv,
        HEAD_DIM: head_dim,
        LAYER: layer,
    }


def _make_store_row(kv: KVType) -> Any:
    write, item = kv.write, kv.item_bytes

    @kernel
    def store_row(o, s, row):
        """Write the keys and values of one row, float32 (n_head_kv, head_dim), into its block of the cache."""
        n_head_kv, head_dim = o[N_HEAD_KV], o[HEAD_DIM]
        padded = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES
        k, v = as_float32(o[K] + row * o[K_STRIDE]), as_float32(o[V] + row * o[V_STRIDE])
        position = as_int32(s[st.POSITIONS])[row]
        block_of = as_int32(s[st.TABLES] + as_int32(s[st.SLOTS])[row] * s[st.TABLE_STRIDE])
        block, inside = block_of[position // KV_BLOCK_SIZE], position % KV_BLOCK_SIZE
        head_bytes = n_head_kv * KV_BLOCK_SIZE * item
        keys = s[st.KEYS] + o[LAYER] * s[st.LAYER_KEY_BYTES] + block * head_bytes * head_dim
        values = s[st.VALUES] + o[LAYER] * s[st.LAYER_VALUE_BYTES] + block * head_bytes * padded
        for head in range(n_head_kv):
            for i in range(head_dim):
                write(keys, (head * head_dim + i) * KV_BLOCK_SIZE + inside, k[head * head_dim + i])
                write(values, (head * KV_BLOCK_SIZE + inside) * padded + i, v[head * head_dim + i])

    return store_row


def _make_runs(kv: KVType) -> tuple[Unit, Unit]:
    store_row = _make_store_row(kv)

    @operation(f"writing the {kv.name} cache", name=f"store_{kv.name}")
    def run_store(o, s, n_rows, ith, nth, counter, scratch):
        """k, v: float32 (n_rows, n_head_kv, head_dim)."""
        for row in range(ith, n_rows, nth):
            store_row(o, s, row)

    @operation(f"RoPE and the {kv.name} cache", name=f"rope_store_{kv.name}")
    def run_rope_store(o, s, n_rows, ith, nth, counter, scratch):
        """q: float32 (n_rows, n_head, head_dim). k, v: float32 (n_rows, n_head_kv, head_dim)."""
        for row in range(ith, n_rows, nth):
            table = rope_table_row(s, row, o[N_ROT])
            rope_row(o[Q] + row * o[Q_STRIDE], o[N_HEAD], o[HEAD_DIM], o[N_ROT], table)
            rope_row(o[K] + row * o[K_STRIDE], o[N_HEAD_KV], o[HEAD_DIM], o[N_ROT], table)
            store_row(o, s, row)

    return run_store, run_rope_store


_STORE: dict[KVType, Unit] = {}
_ROPE_STORE: dict[KVType, Unit] = {}
for _kv in KV_TYPES.values():
    _STORE[_kv], _ROPE_STORE[_kv] = _make_runs(_kv)
