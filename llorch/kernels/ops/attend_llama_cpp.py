"""The slow twin of attention: every float added in llama.cpp's order (`llama_cpp_lanes`)."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy import float32, float64, inf

from llorch.kernels import step as st
from llorch.kernels.emit.scalars import (
    allocate,
    as_float32,
    as_int32,
    atomic_add,
    float32_of_bits,
    fused_multiply_add,
    release,
)
from llorch.kernels.jit import Unit, kernel, operation
from llorch.kernels.kv_types import KVType
from llorch.kernels.layout import FLOAT_LANES, KV_BLOCK_SIZE
from llorch.kernels.llama_cpp_lanes import (
    STEP,
    add_lanes_in_halves,
    add_lanes_in_pairs,
    add_product,
    add_registers,
)
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
from llorch.kernels.ops.swiglu_llama_cpp import exp_float32_llama_cpp


class Keys(NamedTuple):
    """The keys of one KV head of a sequence: address of its int32 block table, of block 0, bytes from block to
    block."""

    table: int
    address: int
    block_bytes: int


class Values(NamedTuple):
    """The values of one KV head of a sequence, as `Keys`, and the padded head size."""

    table: int
    address: int
    block_bytes: int
    padded: int


@kernel
def scale_to_maximum(raw, n, scale, weights):
    """Write `n` scaled scores; returns the highest."""
    highest = float32(-inf)
    for j in range(n):
        weights[j] = raw[j] * scale
        highest = max(highest, weights[j])
    return highest


@kernel
def exponentials_llama_cpp(weights, n, highest, lanes):
    """Replace `n` scaled scores by ``e^(score - highest)``; returns the inverse of their sum, taken eight at a time."""
    total = float64(0)
    for start in range(0, n, 8):
        for lane in range(8):
            lanes[lane] = float32(0)
            if start + lane < n:
                lanes[lane] = exp_float32_llama_cpp(weights[start + lane] - highest)
                weights[start + lane] = lanes[lane]
        total += float64(add_lanes_in_halves(lanes))
    return float32(float64(1) / total)


@kernel
def multiply(weights, n, factor):
    """``weights *= factor`` for `n` of them."""
    for j in range(n):
        weights[j] *= factor


@kernel
def soft_max(raw, n, scale, weights, lanes):
    """Softmax weights of a row of `n` raw scores."""
    highest = scale_to_maximum(raw, n, scale, weights)
    multiply(weights, n, exponentials_llama_cpp(weights, n, highest, lanes))


def make_raw_scores(kv: KVType) -> Any:
    """``raw_scores(q, head_dim, keys, n, raw, scratch)`` for kernels: one query with the first `n` keys.

    `raw`: float32 (n,).
    """
    read = kv.read

    @kernel
    def score(query, block, head_dim, inside, lanes):
        """Raw score with the key at place `inside` of a block (head_dim, 32)."""
        n_whole = head_dim // STEP * STEP
        for lane in range(STEP):
            lanes[lane] = float32(0)
        for i in range(n_whole):
            key = read(block, i * KV_BLOCK_SIZE + inside)
            lanes[i % STEP] = fused_multiply_add(key, query[i], lanes[i % STEP])
        add_registers(lanes)
        total = add_lanes_in_pairs(lanes)
        for i in range(n_whole, head_dim):
            total = add_product(read(block, i * KV_BLOCK_SIZE + inside), query[i], total, i, head_dim)
        return total

    @kernel
    def raw_scores(q, head_dim, keys, n, raw, scratch):
        query, block_of = as_float32(q), as_int32(keys.table)
        for j in range(n):
            block = keys.address + block_of[j // KV_BLOCK_SIZE] * keys.block_bytes
            raw[j] = score(query, block, head_dim, j % KV_BLOCK_SIZE, as_float32(scratch))

    return raw_scores


def make_mix(kv: KVType) -> Any:
    """``mix(weights, n, values, column, lanes)`` for kernels: a component of the sum of the first `n` values."""
    read = kv.read

    @kernel
    def mix(weights, n, values, column, lanes):
        block_of = as_int32(values.table)
        for lane in range(STEP):
            lanes[lane] = float32(0)
        for j in range(n):
            block = values.address + block_of[j // KV_BLOCK_SIZE] * values.block_bytes
            value = read(block, j % KV_BLOCK_SIZE * values.padded + column)
            lanes[j % STEP] = fused_multiply_add(value, weights[j], lanes[j % STEP])
        add_registers(lanes)
        return add_lanes_in_pairs(lanes)

    return mix


def make_attend_llama_cpp(kv: KVType) -> Unit:
    """The twin for one cache type; a float16 cache is read as float32, which llama.cpp does otherwise."""
    raw_scores, mix, item = make_raw_scores(kv), make_mix(kv), kv.item_bytes

    @operation(f"attention over {kv.name} in llama.cpp's order", name=f"attend_{kv.name}_llama_cpp")
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """As `ops.attend`'s runner; threads claim pairs of a row and a query head."""
        n_head, n_head_kv, head_dim = o[N_HEAD], o[N_HEAD_KV], o[HEAD_DIM]
        padded = (head_dim + FLOAT_LANES - 1) // FLOAT_LANES * FLOAT_LANES
        key_bytes, value_bytes = KV_BLOCK_SIZE * head_dim * item, KV_BLOCK_SIZE * padded * item
        positions, slots = as_int32(s[st.POSITIONS]), as_int32(s[st.SLOTS])
        lanes = as_float32(scratch)
        work = atomic_add(counter, 1)
        while work < n_rows * n_head:
            row, head = work // n_head, work % n_head
            kv_head = head // (n_head // n_head_kv)
            n = positions[row] + 1
            table = s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE]
            keys = s[st.KEYS] + o[LAYER] * s[st.LAYER_KEY_BYTES] + kv_head * key_bytes
            first = s[st.VALUES] + o[LAYER] * s[st.LAYER_VALUE_BYTES] + kv_head * value_bytes
            values = Values(table, first, s[st.BLOCK_VALUE_BYTES], padded)
            memory = allocate(8 * n)
            raw, weights = as_float32(memory), as_float32(memory + 4 * n)
            q = o[Q] + row * o[Q_STRIDE] + head * head_dim * 4
            scale = float32_of_bits(o[SCALE])
            raw_scores(q, head_dim, Keys(table, keys, s[st.BLOCK_KEY_BYTES]), n, raw, scratch)
            soft_max(raw, n, scale, weights, lanes)
            out = as_float32(o[OUT] + row * o[OUT_STRIDE] + head * head_dim * 4)
            for column in range(head_dim):
                out[column] = mix(weights, n, values, column, lanes)
            release(memory)
            work = atomic_add(counter, 1)

    return run
