"""Slow twins that add every float in the order of llama.cpp's AVX2 build, for proofs by equality.

Two correct engines differ in the last bit of a sum, and now and then that bit rounds an activation to the
neighbouring int8: texts part although nothing is wrong. With `LLORCH_SUMS=llama.cpp` the interpreter takes
these functions in place of the fast kernels, and nothing is left to differ: all stages, and whole texts, equal
in every bit those of llama.cpp's x86 build with AVX2 and FMA, its matrix products by `ggml_vec_dot_*`
(`GGML_LLAMAFILE=OFF`), a float32 KV cache and no flash attention. They say what one lane of a 256-bit register
does, lane after lane; lanes never meet before the end of a row. Unlike kernels they allocate.

Source: ggml-cpu's vec.cpp, arch/x86/quants.c, ops.cpp, simd-mappings.h at llama.cpp 0c1e570; bit-exact.
"""

from __future__ import annotations

import numpy as np
from numba import carray
from numpy import float32, float64, inf, int32

from llorch.kernels.attention_dot import KV_BLOCK_SIZE
from llorch.kernels.convert import bfloat_to_float32
from llorch.kernels.intrinsics import (
    as_float32,
    as_int8,
    as_int32,
    as_uint16,
    atomic_add,
    bits_of_float32,
    float32_of_bits,
    fused_multiply_add,
    half_to_float32,
)
from llorch.kernels.jit import kernel, piece
from llorch.kernels.libm import expf

_STEP = 32
"""Columns that four registers of eight lanes take at a time."""


@kernel
def _add_lanes_q(a):
    """How `hsum_float_8` adds eight lanes; softmax sums and BF16 products are added so, too."""
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))


@kernel
def _add_lanes_f(a):
    """How `GGML_F32x8_REDUCE` adds eight lanes."""
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]))


@kernel
def _add_registers(lanes):
    """Four registers of eight lanes onto the first."""
    for lane in range(8):
        lanes[lane] = (lanes[lane] + lanes[lane + 16]) + (lanes[lane + 8] + lanes[lane + 24])


@kernel
def _add_product(a, b, total, i, n):
    """``total + a * b`` for column `i` behind the last whole step of `n` float32.

    GCC multiplies these in vectors of eight or four, rounded, and adds them one by one; only the last ``n % 4``
    are fused.
    """
    return fused_multiply_add(a, b, total) if i >= n // 4 * 4 else total + a * b


@kernel
def _dot_q8_0(w, q, d, n_blocks, lanes):
    """One row of weights with one of activations: a lane adds four products of each block, blocks in order."""
    scales = carray(as_float32(d), n_blocks)
    for lane in range(8):
        lanes[lane] = float32(0)
    for block in range(n_blocks):
        at = w + block * 34
        scale = half_to_float32(carray(as_uint16(at), 1)[0]) * scales[block]
        weights, activations = carray(as_int8(at + 2), 32), carray(as_int8(q + block * 32), 32)
        for lane in range(8):
            total = int32(0)
            for i in range(lane * 4, lane * 4 + 4):
                total += int32(weights[i]) * int32(activations[i])
            lanes[lane] = fused_multiply_add(scale, float32(total), lanes[lane])
    return _add_lanes_q(lanes)


@kernel
def _value(type_id, address, index):
    """Element `index` of F32 (0), F16 (1) or BF16 (30) values at `address`, as float32."""
    if type_id == 0:
        return carray(as_float32(address), index + 1)[index]
    if type_id == 1:
        return half_to_float32(carray(as_uint16(address), index + 1)[index])
    return bfloat_to_float32(carray(as_uint16(address), index + 1)[index])


@kernel
def _dot_floats(type_id, w, x, n, lanes):
    """One row of F32, F16 or BF16 weights with float32 activations already rounded to the weight's type."""
    values = carray(as_float32(x), n)
    n_whole = n // _STEP * _STEP
    for lane in range(_STEP):
        lanes[lane] = float32(0)
    for start in range(0, n_whole, _STEP):
        for lane in range(_STEP):
            i = start + lane
            lanes[lane] = fused_multiply_add(_value(type_id, w, i), values[i], lanes[lane])
    _add_registers(lanes)
    if type_id == 0:
        total = _add_lanes_f(lanes)
        for i in range(n_whole, n):
            total = _add_product(_value(type_id, w, i), values[i], total, i, n)
        return total
    wide = float64(_add_lanes_f(lanes) if type_id == 1 else _add_lanes_q(lanes))
    for i in range(n_whole, n):
        wide += float64(_value(type_id, w, i) * values[i])
    return float32(wide)


@kernel
def _put(value, at, accumulate):
    out = carray(as_float32(at), 1)
    out[0] = out[0] + value if accumulate else value


@piece("Q8_0 products in llama.cpp's order", 13)
def matmul_q8_0(
    weights, is_packed, n_in, n_out, q, d, s, n_tokens, out, out_stride, accumulate, counter, scratch
):
    """As `linear.q8_0.matmul_q8_0`, for rows as in the file."""
    lanes = np.empty(8, np.float32)
    n_blocks = n_in // 32
    row = atomic_add(counter, 1)
    while row < n_out:
        for token in range(n_tokens):
            product = _dot_q8_0(
                weights + row * n_blocks * 34, q + token * n_in, d + token * n_blocks * 4, n_blocks, lanes
            )
            _put(product, out + token * out_stride + row * 4, accumulate)
        row = atomic_add(counter, 1)


@piece("float products in llama.cpp's order", 11)
def matmul_float(type_id, weights, n_in, n_out, x, x_stride, n_tokens, out, out_stride, accumulate, counter):
    """As `linear.floats.matmul_float`."""
    lanes = np.empty(_STEP, np.float32)
    item = 4 if type_id == 0 else 2
    row = atomic_add(counter, 1)
    while row < n_out:
        for token in range(n_tokens):
            product = _dot_floats(type_id, weights + row * n_in * item, x + token * x_stride, n_in, lanes)
            _put(product, out + token * out_stride + row * 4, accumulate)
        row = atomic_add(counter, 1)


@kernel
def exp_float32(x):
    """e^x as `ggml_v_expf` computes it (the polynomial of Arm's optimized routines)."""
    magic = float32(12582912.0)
    z = fused_multiply_add(x, float32(1.4426950216293335), magic)
    n = z - magic
    b = fused_multiply_add(-n, float32(0.693145751953125), x)
    b = fused_multiply_add(-n, float32(1.428606765330187e-06), b)
    e = int32(bits_of_float32(z) << int32(23))
    u = b * b
    high = fused_multiply_add(float32(0.008247390389442444), b, float32(0.04189976677298546))
    low = fused_multiply_add(float32(0.16668395698070526), b, float32(0.4999912679195404))
    j = fused_multiply_add(fused_multiply_add(high, u, low), u, float32(0.9999994039535522) * b)
    if abs(n) <= float32(126):
        k = float32_of_bits(int32(e + bits_of_float32(float32(1))))
        return fused_multiply_add(j, k, k)
    g = int32(-0x7E000000) if n <= float32(0) else int32(0)
    s1 = float32_of_bits(int32(g + int32(0x7F000000)))
    if abs(n) > float32(192):
        return s1 * s1
    s2 = float32_of_bits(int32(e - g))
    return fused_multiply_add(s2, j, s2) * s1


@kernel
def swiglu_row(gate_address, up_address, n, out_address):
    """As `activation.swiglu_row`; the last ``n % 8`` columns take the C library's exponential."""
    gate, up = carray(as_float32(gate_address), n), carray(as_float32(up_address), n)
    out = carray(as_float32(out_address), n)
    n_whole = n // 8 * 8
    for i in range(n_whole):
        out[i] = (gate[i] / (float32(1) + exp_float32(-gate[i]))) * up[i]
    for i in range(n_whole, n):
        out[i] = (gate[i] / (float32(1) + expf(-gate[i]))) * up[i]


@kernel
def _score(type_id, q, keys, head_dim, inside, lanes):
    """Raw score of a float32 query with the key at place `inside` of a block (head_dim, 32)."""
    query = carray(as_float32(q), head_dim)
    n_whole = head_dim // _STEP * _STEP
    for lane in range(_STEP):
        lanes[lane] = float32(0)
    for i in range(n_whole):
        key = _value(type_id, keys, i * KV_BLOCK_SIZE + inside)
        lanes[i % _STEP] = fused_multiply_add(key, query[i], lanes[i % _STEP])
    _add_registers(lanes)
    total = _add_lanes_f(lanes)
    for i in range(n_whole, head_dim):
        key = _value(type_id, keys, i * KV_BLOCK_SIZE + inside)
        total = _add_product(key, query[i], total, i, head_dim)
    return total


@kernel
def _soft_max(raw, scale, weights, lanes):
    """Softmax weights of a row of raw scores, summed in groups of eight."""
    n = raw.shape[0]
    highest = float32(-inf)
    for j in range(n):
        highest = max(highest, raw[j] * scale)
    total = float64(0)
    for start in range(0, n, 8):
        for lane in range(8):
            lanes[lane] = float32(0)
            if start + lane < n:
                lanes[lane] = exp_float32(raw[start + lane] * scale - highest)
                weights[start + lane] = lanes[lane]
        total += float64(_add_lanes_q(lanes))
    inverse = float32(float64(1) / total)
    for j in range(n):
        weights[j] *= inverse


@kernel
def _weigh(is_half, q, head_dim, scale, table, keys, key_bytes, raw, weights, lanes):
    """Raw scores and softmax weights of one query with all keys it sees, ``raw.shape[0]`` of them."""
    block_of = carray(as_int32(table), (raw.shape[0] - 1) // KV_BLOCK_SIZE + 1)
    for j in range(raw.shape[0]):
        block = keys + block_of[j // KV_BLOCK_SIZE] * key_bytes
        raw[j] = _score(1 if is_half else 0, q, block, head_dim, j % KV_BLOCK_SIZE, lanes)
    _soft_max(raw, scale, weights, lanes)


@kernel
def _mix(type_id, weights, table, values, value_bytes, wide, column, lanes):
    """Component `column` of the weighted sum of all values."""
    n = weights.shape[0]
    block_of = carray(as_int32(table), (n - 1) // KV_BLOCK_SIZE + 1)
    for lane in range(_STEP):
        lanes[lane] = float32(0)
    for j in range(n):
        block = values + block_of[j // KV_BLOCK_SIZE] * value_bytes
        value = _value(type_id, block, j % KV_BLOCK_SIZE * wide + column)
        lanes[j % _STEP] = fused_multiply_add(value, weights[j], lanes[j % _STEP])
    _add_registers(lanes)
    return _add_lanes_f(lanes)


@piece("attention in llama.cpp's order", 19, float32_at=8)
def attend(is_half, q, q_stride, out, out_stride, n_head, n_head_kv, head_dim, scale, positions, slots, tables,
           table_stride, groups, n_groups, keys, values, counter, scratch):  # fmt: skip
    """As `attention.attend`; a float16 cache is read as float32, which llama.cpp does otherwise."""
    type_id, item = (1, 2) if is_half else (0, 4)
    wide = (head_dim + 15) // 16 * 16
    key_bytes, value_bytes = KV_BLOCK_SIZE * head_dim * item, KV_BLOCK_SIZE * wide * item
    group = carray(as_int32(groups), 2 * n_groups)
    n_rows = int(group[2 * n_groups - 2] + group[2 * n_groups - 1])
    lanes = np.empty(_STEP, np.float32)
    work = atomic_add(counter, 1)
    while work < n_rows * n_head:
        row, head = work // n_head, work % n_head
        kv_head = head // (n_head // n_head_kv)
        n = int(carray(as_int32(positions), row + 1)[row]) + 1
        table = tables + carray(as_int32(slots), row + 1)[row] * table_stride
        raw, weights = np.empty(n, np.float32), np.empty(n, np.float32)
        _weigh(is_half, q + row * q_stride + head * head_dim * 4, head_dim, scale, table,
               keys + kv_head * key_bytes, key_bytes * n_head_kv, raw, weights, lanes)  # fmt: skip
        target = carray(as_float32(out + row * out_stride + head * head_dim * 4), head_dim)
        for column in range(head_dim):
            target[column] = _mix(type_id, weights, table, values + kv_head * value_bytes,
                                  value_bytes * n_head_kv, wide, column, lanes)  # fmt: skip
        work = atomic_add(counter, 1)


@kernel
def scores_row(
    is_half, q_address, n_head, n_head_kv, head_dim, scale, position, table, keys, raw, weights, head_stride
):
    """As `attention.scores_row`."""
    key_bytes = KV_BLOCK_SIZE * head_dim * (2 if is_half else 4)
    lanes = np.empty(_STEP, np.float32)
    for head in range(n_head):
        at = head * head_stride
        _weigh(is_half, q_address + head * head_dim * 4, head_dim, scale, table,
               keys + head // (n_head // n_head_kv) * key_bytes, key_bytes * n_head_kv,
               carray(as_float32(raw + at), position + 1), carray(as_float32(weights + at), position + 1),
               lanes)  # fmt: skip
