"""Runs a program: every thread of the team walks the same instructions and does its share of each."""

from __future__ import annotations

from numba import carray
from numpy import float32

from llorch.kernels import instructions as op
from llorch.kernels import paths
from llorch.kernels import step as st
from llorch.kernels.attention import store_kv_row
from llorch.kernels.barrier import barrier
from llorch.kernels.convert import bfloat_to_float32
from llorch.kernels.intrinsics import (
    as_float32,
    as_int8,
    as_int32,
    as_int64,
    as_uint16,
    float32_of_bits,
    half_to_float32,
    ticks,
)
from llorch.kernels.jit import kernel, piece
from llorch.kernels.norm import rms_norm_row
from llorch.kernels.quantize import quantize_row_q8_0, round_activations
from llorch.kernels.rope import rope_row

if paths.sums() == "llama.cpp":
    from llorch.kernels.llama_cpp_sums import (
        attend,
        matmul_float,
        matmul_q8_0,
        scores_row,
        swiglu_row,
    )
else:
    from llorch.kernels.activation import swiglu_row
    from llorch.kernels.attention import attend, scores_row
    from llorch.kernels.linear.floats import matmul_float
    from llorch.kernels.linear.q8_0 import matmul_q8_0

CHUNK = 512
"""Columns of a row that one thread prepares at a time."""


@kernel
def _forms(x, row, start, n, width, forms, q, d, s, half, bfloat):
    """Fill the other forms of `n` columns from `start` of a row of `width` float32."""
    if forms & op.FORM_Q8_0:
        at, block = row * width + start, (row * width + start) // 32
        quantize_row_q8_0(x, n, q + at, d + block * 4, s + block * 4)
    padded = (width + 15) // 16 * 16
    if forms & op.FORM_F16:
        round_activations(1, x, n, half + (row * padded + start) * 4)
    if forms & op.FORM_BF16:
        round_activations(30, x, n, bfloat + (row * padded + start) * 4)


@kernel
def _embed(o, s, n_rows, ith, nth):
    table, type_id, n, row_bytes, out, out_stride = o[2], o[3], o[4], o[5], o[6], o[7]
    token_ids = carray(as_int32(s[st.TOKEN_IDS]), n_rows)
    for row in range(ith, n_rows, nth):
        at = table + token_ids[row] * row_bytes
        x = carray(as_float32(out + row * out_stride), n)
        if type_id == 0:
            floats = carray(as_float32(at), n)
            for i in range(n):
                x[i] = floats[i]
        elif type_id == 1:
            halves = carray(as_uint16(at), n)
            for i in range(n):
                x[i] = half_to_float32(halves[i])
        elif type_id == 30:
            halves = carray(as_uint16(at), n)
            for i in range(n):
                x[i] = bfloat_to_float32(halves[i])
        else:
            for block in range(n // 32):
                d = half_to_float32(carray(as_uint16(at + block * 34), 1)[0])
                q = carray(as_int8(at + block * 34 + 2), 32)
                for i in range(32):
                    x[block * 32 + i] = d * float32(q[i])


@kernel
def _norm(o, n_rows, ith, nth):
    x, x_stride, weight, n, out, out_stride = o[2], o[3], o[4], o[5], o[7], o[8]
    eps = float32_of_bits(o[6])
    for row in range(ith, n_rows, nth):
        at = out + row * out_stride
        rms_norm_row(x + row * x_stride, weight, n, eps, at)
        _forms(at, row, 0, n, n, o[9], o[10], o[11], o[12], o[13], o[14])


@kernel
def _prepare(o, n_rows, ith, nth):
    x, stride, n = o[2], o[3], o[4]
    n_chunks = (n + CHUNK - 1) // CHUNK
    for work in range(ith, n_rows * n_chunks, nth):
        row, start = work // n_chunks, work % n_chunks * CHUNK
        count = min(CHUNK, n - start)
        _forms(x + row * stride + start * 4, row, start, count, n, o[5], o[6], o[7], o[8], o[9], o[10])


@kernel
def _swiglu(o, n_rows, ith, nth):
    gate, up, stride, n, out = o[2], o[3], o[4], o[5], o[6]
    n_chunks = (n + CHUNK - 1) // CHUNK
    for work in range(ith, n_rows * n_chunks, nth):
        row, start = work // n_chunks, work % n_chunks * CHUNK
        count = min(CHUNK, n - start)
        at = row * stride + start * 4
        swiglu_row(gate + at, up + at, count, out + at)
        _forms(out + at, row, start, count, n, o[7], o[8], o[9], o[10], o[11], o[12])


@kernel
def _rope_store(o, s, n_rows, ith, nth):
    q, q_stride, k, k_stride, v, v_stride, n_head, n_head_kv, head_dim, n_rot, layer = (
        o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12])  # fmt: skip
    positions = carray(as_int32(s[st.POSITIONS]), n_rows)
    slots = carray(as_int32(s[st.SLOTS]), n_rows)
    keys = s[st.KEYS] + layer * s[st.LAYER_KEY_BYTES]
    values = s[st.VALUES] + layer * s[st.LAYER_VALUE_BYTES]
    for row in range(ith, n_rows, nth):
        position = int(positions[row])
        table = s[st.ROPE_TABLE] + position * n_rot * 4
        if o[13] & op.DO_ROPE:
            rope_row(q + row * q_stride, n_head, head_dim, n_rot, table)
            rope_row(k + row * k_stride, n_head_kv, head_dim, n_rot, table)
        if o[13] & op.DO_STORE:
            blocks = s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE]
            store_kv_row(s[st.IS_HALF], k + row * k_stride, v + row * v_stride, n_head_kv, head_dim, position,
                         blocks, keys, values)  # fmt: skip


@kernel
def _attend(o, s, counter, scratch):
    layer = o[10]
    attend(s[st.IS_HALF], o[2], o[3], o[4], o[5], o[6], o[7], o[8], float32_of_bits(o[9]), s[st.POSITIONS],
           s[st.SLOTS], s[st.TABLES], s[st.TABLE_STRIDE], s[st.GROUPS], s[st.N_GROUPS],
           s[st.KEYS] + layer * s[st.LAYER_KEY_BYTES], s[st.VALUES] + layer * s[st.LAYER_VALUE_BYTES],
           counter, scratch)  # fmt: skip


@kernel
def _scores(o, s, n_rows, ith, nth):
    positions = carray(as_int32(s[st.POSITIONS]), n_rows)
    slots = carray(as_int32(s[st.SLOTS]), n_rows)
    keys = s[st.KEYS] + o[8] * s[st.LAYER_KEY_BYTES]
    for row in range(ith, n_rows, nth):
        offset = row * s[st.SCORES_ROW_STRIDE]
        scores_row(s[st.IS_HALF], o[2] + row * o[3], o[4], o[5], o[6], float32_of_bits(o[7]), int(positions[row]),
                   s[st.TABLES] + slots[row] * s[st.TABLE_STRIDE], keys, s[st.SCORES_RAW] + offset,
                   s[st.SCORES_WEIGHTS] + offset, s[st.SCORES_HEAD_STRIDE])  # fmt: skip


@kernel
def _add(o, n_rows, ith, nth):
    for row in range(ith, n_rows, nth):
        a = carray(as_float32(o[2] + row * o[5]), o[6])
        b = carray(as_float32(o[3] + row * o[5]), o[6])
        out = carray(as_float32(o[4] + row * o[5]), o[6])
        for i in range(o[6]):
            out[i] = a[i] + b[i]


@kernel
def _select(o, s, n_rows, ith, nth):
    chosen = carray(as_int32(s[st.OUTPUT_ROW_IDS]), n_rows)
    for row in range(ith, n_rows, nth):
        x = carray(as_float32(o[2] + chosen[row] * o[3]), o[6])
        out = carray(as_float32(o[4] + row * o[5]), o[6])
        for i in range(o[6]):
            out[i] = x[i]


@kernel
def _matmul(o, s, n_rows, counter, scratch):
    if o[0] == op.MATMUL_Q8_0:
        out, stride = (o[9], o[10]) if o[9] else (s[st.LOGITS], s[st.LOGITS_STRIDE])
        matmul_q8_0(o[2], o[3], o[4], o[5], o[6], o[7], o[8], n_rows, out, stride, o[11], counter, scratch)
    else:
        out, stride = (o[8], o[9]) if o[8] else (s[st.LOGITS], s[st.LOGITS_STRIDE])
        matmul_float(o[2], o[3], o[4], o[5], o[6], o[7], n_rows, out, stride, o[10], counter)


@piece("forward pass", 9)
def run_instructions(program, first, last, step, counters, control, scratch, ith, nth):
    """Run instructions ``first <= i < last`` as thread `ith` of `nth`; returns 1 if the team was aborted.

    Args (int64; addresses unless said otherwise):
        program: instructions.
        step: what changes from step to step.
        counters: one int64 per instruction, 0 at the start, from which threads claim work.
        control: the team's control block.
        scratch: this thread's own scratch.
    """
    s = carray(as_int64(step), st.STEP_SIZE)
    for i in range(first, last):
        o = carray(as_int64(program + i * op.RECORD * 8), op.RECORD)
        code, flags = o[0], o[1]
        counter = counters + i * 8
        n_rows = s[st.N_OUTPUTS] if flags & op.OUTPUT_ROWS else s[st.N_ROWS]
        if s[st.STAMPS]:
            carray(as_int64(s[st.STAMPS] + (i * nth + ith) * 16), 2)[0] = ticks()
        if code == op.MATMUL_Q8_0 or code == op.MATMUL_FLOAT:
            _matmul(o, s, n_rows, counter, scratch)
        elif code == op.NORM:
            _norm(o, n_rows, ith, nth)
        elif code == op.PREPARE:
            _prepare(o, n_rows, ith, nth)
        elif code == op.ROPE_STORE:
            _rope_store(o, s, n_rows, ith, nth)
        elif code == op.ATTEND:
            _attend(o, s, counter, scratch)
        elif code == op.SWIGLU:
            _swiglu(o, n_rows, ith, nth)
        elif code == op.ADD:
            _add(o, n_rows, ith, nth)
        elif code == op.EMBED:
            _embed(o, s, n_rows, ith, nth)
        elif code == op.SELECT:
            _select(o, s, n_rows, ith, nth)
        elif code == op.SCORES:
            _scores(o, s, n_rows, ith, nth)
        if s[st.STAMPS]:
            carray(as_int64(s[st.STAMPS] + (i * nth + ith) * 16), 2)[1] = ticks()
        if flags & op.BARRIER and barrier(control, nth):
            return 1
    return 0
