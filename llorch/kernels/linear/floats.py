"""F32, F16 and BF16 matrix products: weights stay as they lie in the file, nothing is expanded.

Sixteen float32 lanes per output run over the columns in order and are summed in one fixed way, so an output
has the same bits whatever the batch. Activations arrive as float32, already rounded to the weight's own
precision where llama.cpp does that (`quantize.round_activations`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types
from numpy import int32, uint16

from llorch.kernels.intrinsics import (
    F32,
    I16,
    I32,
    I64,
    as_int32,
    as_uint16,
    atomic_add,
    call,
    constant,
    fma,
    half_to_float,
    intrinsic,
    load,
    store,
    sum_lanes,
    vector,
)  # fmt: skip
from llorch.kernels.jit import entry_point, kernel, piece

LANES = 16
ROWS = 4
"""Rows a thread claims at a time."""

F32_ID, F16_ID, BF16_ID = 0, 1, 30
_ITEM_BYTES = {F32_ID: 4, F16_ID: 2, BF16_ID: 2}


def _widen(builder: Any, type_id: int, raw: Any) -> Any:
    floats = vector(F32, LANES)
    if type_id == F32_ID:
        return builder.bitcast(raw, floats)
    if type_id == F16_ID:
        return half_to_float(builder, raw)
    wide = builder.shl(builder.zext(raw, vector(I32, LANES)), constant(I32, LANES, 16))
    return builder.bitcast(wide, floats)


def _masked_load(builder: Any, type_: Any, address: Any, mask: Any) -> Any:
    pointer = builder.inttoptr(address, type_.as_pointer())
    suffix = f"v{LANES}i{type_.element.width}.p0"
    zero = ir.Constant(type_, [0] * LANES)
    return call(builder, f"llvm.masked.load.{suffix}", type_, [pointer, ir.Constant(I32, 1), mask, zero])


def _emit_dot(builder: Any, args: Any, type_id: int, n_tokens: int) -> None:
    weights, n_in, x, x_stride, out, out_stride, accumulate = args
    item = _ITEM_BYTES[type_id]
    floats = vector(F32, LANES)
    raw_type = vector(I32 if item == 4 else I16, LANES)
    word_type = vector(I32, LANES)
    tokens = range(n_tokens)
    x_at = [builder.add(x, builder.mul(x_stride, ir.Constant(I64, t))) for t in tokens]
    n_whole = builder.and_(n_in, ir.Constant(I64, -LANES))
    entry = builder.block
    head, body, tail, done = (builder.append_basic_block(name) for name in ("head", "body", "tail", "done"))
    builder.branch(head)

    builder.position_at_end(head)
    column = builder.phi(I64)
    column.add_incoming(ir.Constant(I64, 0), entry)
    sums = [builder.phi(floats) for _ in tokens]
    for phi in sums:
        phi.add_incoming(constant(F32, LANES, 0.0), entry)
    builder.cbranch(builder.icmp_signed("<", column, n_whole), body, tail)

    builder.position_at_end(body)
    weight_at = builder.add(weights, builder.mul(column, ir.Constant(I64, item)))
    x_offset = builder.mul(column, ir.Constant(I64, 4))
    w = _widen(builder, type_id, load(builder, raw_type, weight_at))
    for t in tokens:
        value = load(builder, floats, builder.add(x_at[t], x_offset), align=4)
        sums[t].add_incoming(fma(builder, w, value, sums[t]), body)
    column.add_incoming(builder.add(column, ir.Constant(I64, LANES)), body)
    builder.branch(head)

    builder.position_at_end(tail)
    builder.cbranch(
        builder.icmp_signed("==", n_whole, n_in), done, last := builder.append_basic_block("last")
    )
    builder.position_at_end(last)
    left = builder.trunc(builder.sub(n_in, n_whole), I32)
    lanes = ir.Constant(word_type, list(range(LANES)))
    undefined = ir.Constant(word_type, ir.Undefined)
    first = builder.insert_element(undefined, left, ir.Constant(I32, 0))
    limit = builder.shuffle_vector(first, undefined, constant(I32, LANES, 0))
    mask = builder.icmp_signed("<", lanes, limit)
    weight_at = builder.add(weights, builder.mul(n_whole, ir.Constant(I64, item)))
    x_offset = builder.mul(n_whole, ir.Constant(I64, 4))
    w = _widen(builder, type_id, _masked_load(builder, raw_type, weight_at, mask))
    ended = []
    for t in tokens:
        value = builder.bitcast(
            _masked_load(builder, word_type, builder.add(x_at[t], x_offset), mask), floats
        )
        ended.append(fma(builder, w, value, sums[t]))
    builder.branch(done)

    builder.position_at_end(done)
    for t in tokens:
        total = builder.phi(floats)
        total.add_incoming(sums[t], tail)
        total.add_incoming(ended[t], last)
        ended[t] = total
    for t in tokens:
        value = sum_lanes(builder, ended[t])
        at = builder.add(out, builder.mul(out_stride, ir.Constant(I64, t)))
        with builder.if_else(builder.icmp_signed("!=", accumulate, ir.Constant(I64, 0))) as (add, plain):
            with add:
                store(builder, builder.fadd(value, load(builder, F32, at)), at, align=4)
            with plain:
                store(builder, value, at, align=4)


def _make_dot(type_id: int, n_tokens: int) -> Any:
    @intrinsic
    def dot(typingctx, weights, n_in, x, x_stride, out, out_stride, accumulate):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_dot(builder, args, type_id, n_tokens)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    @kernel
    def run(weights, n_in, x, x_stride, out, out_stride, accumulate):
        dot(weights, n_in, x, x_stride, out, out_stride, accumulate)

    return run


def _make_matmul(type_id: int) -> Any:
    dot_4, dot_1 = _make_dot(type_id, 4), _make_dot(type_id, 1)
    item = _ITEM_BYTES[type_id]

    @kernel
    def matmul(weights, n_in, n_out, x, x_stride, n_tokens, out, out_stride, accumulate, counter):
        while True:
            first = atomic_add(counter, ROWS)
            if first >= n_out:
                break
            for row in range(first, min(first + ROWS, n_out)):
                w = weights + row * n_in * item
                token = 0
                while token < n_tokens:
                    at, source = out + token * out_stride + row * 4, x + token * x_stride
                    if n_tokens - token >= 4:
                        dot_4(w, n_in, source, x_stride, at, out_stride, accumulate)
                        token += 4
                    else:
                        dot_1(w, n_in, source, x_stride, at, out_stride, accumulate)
                        token += 1

    return matmul


_matmul_f32, _matmul_f16, _matmul_bf16 = (_make_matmul(t) for t in (F32_ID, F16_ID, BF16_ID))


@piece("float products", 11)
def matmul_float(type_id, weights, n_in, n_out, x, x_stride, n_tokens, out, out_stride, accumulate, counter):
    """One thread's share of ``out[t] = W @ x[t]``, or ``+=`` for float weights.

    Args (int64; addresses unless said otherwise):
        type_id: ggml id of the weight's type (0 F32, 1 F16, 30 BF16).
        weights: (n_out, n_in) as in the file.
        x, out: float32 rows, `x_stride` and `out_stride` bytes apart.
        accumulate: whether the product is added to what stands in `out`.
        counter: the shared int64 that hands out rows; 0 at the start.
    """
    if type_id == F32_ID:
        _matmul_f32(weights, n_in, n_out, x, x_stride, n_tokens, out, out_stride, accumulate, counter)
    elif type_id == F16_ID:
        _matmul_f16(weights, n_in, n_out, x, x_stride, n_tokens, out, out_stride, accumulate, counter)
    else:
        _matmul_bf16(weights, n_in, n_out, x, x_stride, n_tokens, out, out_stride, accumulate, counter)


@entry_point("int64(int64, int64, int64)")
def scan_floats(type_id, address, n):
    """Non-zero if any of `n` F32, F16 or BF16 values at `address` is NaN or infinite."""
    bad = 0
    if type_id == F32_ID:
        words = carray(as_int32(address), n)
        for i in range(n):
            bad |= int((words[i] & int32(0x7F800000)) == int32(0x7F800000))
        return bad
    exponent = uint16(0x7C00) if type_id == F16_ID else uint16(0x7F80)
    halves = carray(as_uint16(address), n)
    for i in range(n):
        bad |= int((halves[i] & exponent) == exponent)
    return bad
