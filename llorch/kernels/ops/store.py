"""Appending keys and values to the KV cache, alone (`store`) or right after RoPE (`rope_store`)."""

from __future__ import annotations

from typing import Any

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.rotate import make_cache_writers
from llorch.kernels.emit.scalars import as_float32, as_int32
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.kv_types import KV_TYPES, KVType
from llorch.kernels.layout import FLOAT_LANES, KV_BLOCK_SIZE
from llorch.kernels.ops.rope import rope_row, rope_table_row
from llorch.kernels.ops.shares import share_of
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
    run, _ = _RUNS[kv]
    program.add(run, "store", layer, _values(layer, k, v, n_head_kv, head_dim), keep=(k, v))


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
    _, run = _RUNS[kv]
    values = _values(layer, k, v, n_head_kv, head_dim)
    values |= {Q: q.address, Q_STRIDE: q.stride, N_HEAD: n_head, N_ROT: n_rot}
    program.add(run, "rope_store", layer, values, keep=(q, k, v))


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


def _make_store_rows(kv: KVType) -> tuple[Any, Any]:
    write, item = kv.write, kv.item_bytes
    write_row, write_column, write_columns = make_cache_writers(item)

    @kernel
    def place_of(o, s, row, layer_bytes, block_bytes):
        """Bytes from the begin of a cache to the block of a row."""
        block_of = as_int32(s[st.TABLES] + as_int32(s[st.SLOTS])[row] * s[st.TABLE_STRIDE])
        block = block_of[as_int32(s[st.POSITIONS])[row] // KV_BLOCK_SIZE]
        return o[LAYER] * layer_bytes + block * block_bytes

    @kernel
    def store_values(o, s, row):
        """Write the values of one row, float32 (n_head_kv, head_dim), into its block of the cache."""
        head_dim = o[HEAD_DIM]
        padded = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES
        values = s[st.VALUES] + place_of(o, s, row, s[st.LAYER_VALUE_BYTES], s[st.BLOCK_VALUE_BYTES])
        inside = as_int32(s[st.POSITIONS])[row] % KV_BLOCK_SIZE
        for head in range(o[N_HEAD_KV]):
            v = o[V] + row * o[V_STRIDE] + head * head_dim * 4
            out = values + (head * KV_BLOCK_SIZE + inside) * padded * item
            write_row(v, head_dim // FLOAT_LANES, out)
            for i in range(head_dim // FLOAT_LANES * FLOAT_LANES, head_dim):
                write(out, i, as_float32(v)[i])

    @kernel
    def store_keys(o, s, row, n):
        """Write the keys of `n` rows, 1 or 16, at positions of one block that follow each other.

        A single row touches a line for each of its components, which takes four times as long as RoPE when eight
        sequences decode. Asking for those lines before RoPE made it 1.1 times as slow: as many stores are under way
        without it.
        """
        n_components = o[N_HEAD_KV] * o[HEAD_DIM]
        keys = s[st.KEYS] + place_of(o, s, row, s[st.LAYER_KEY_BYTES], s[st.BLOCK_KEY_BYTES])
        out = keys + as_int32(s[st.POSITIONS])[row] % KV_BLOCK_SIZE * item
        n_vectors = n_components // FLOAT_LANES
        k = o[K] + row * o[K_STRIDE]
        if n == FLOAT_LANES:
            write_columns(k, o[K_STRIDE], n_vectors, out, KV_BLOCK_SIZE * item)
        else:
            write_column(k, n_vectors, out, KV_BLOCK_SIZE * item)
        for other in range(n):
            for i in range(n_vectors * FLOAT_LANES, n_components):
                write(out, i * KV_BLOCK_SIZE + other, as_float32(k + other * o[K_STRIDE])[i])

    return store_keys, store_values


@kernel
def _rows_together(s, row, last):
    """How many of the rows ``row <= i < last`` are stored at once: 16 at positions that fill half a block, or 1."""
    positions, slots = as_int32(s[st.POSITIONS]), as_int32(s[st.SLOTS])
    if positions[row] % FLOAT_LANES or row + FLOAT_LANES > last:
        return 1
    for i in range(1, FLOAT_LANES):
        if slots[row + i] != slots[row] or positions[row + i] != positions[row] + i:
            return 1
    return FLOAT_LANES


def _make_runs(kv: KVType) -> tuple[Unit, Unit]:
    store_keys, store_values = _make_store_rows(kv)

    @operation(f"writing the {kv.name} cache", name=f"store_{kv.name}")
    def run_store(o, s, n_rows, ith, nth, counter, scratch):
        """k, v: float32 (n_rows, n_head_kv, head_dim)."""
        row, last = share_of(n_rows, ith, nth)
        while row < last:
            n = _rows_together(s, row, last)
            store_keys(o, s, row, n)
            for i in range(row, row + n):
                store_values(o, s, i)
            row += n

    @operation(f"RoPE and the {kv.name} cache", name=f"rope_store_{kv.name}")
    def run_rope_store(o, s, n_rows, ith, nth, counter, scratch):
        """q: float32 (n_rows, n_head, head_dim). k, v: float32 (n_rows, n_head_kv, head_dim)."""
        row, last = share_of(n_rows, ith, nth)
        while row < last:
            n = _rows_together(s, row, last)
            for i in range(row, row + n):
                table = rope_table_row(s, i, o[N_ROT])
                rope_row(o[K] + i * o[K_STRIDE], o[N_HEAD_KV], o[HEAD_DIM], o[N_ROT], table)
            store_keys(o, s, row, n)
            for i in range(row, row + n):
                store_values(o, s, i)
                table = rope_table_row(s, i, o[N_ROT])
                rope_row(o[Q] + i * o[Q_STRIDE], o[N_HEAD], o[HEAD_DIM], o[N_ROT], table)
            row += n

    return run_store, run_rope_store


_RUNS = {kv: _make_runs(kv) for kv in KV_TYPES.values()}
