"""F32, F16 and BF16 weights: used as they lie in the file, nothing is expanded.

Sixteen float32 lanes per output run over the columns in order and are summed in one fixed way, so an output has the
same bits whatever the batch. Activations arrive as float32, already rounded to the weight's own precision where
llama.cpp does that (`activations.rounded`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numpy import int32, uint16

from llorch.kernels.activations import rounded
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.convert import bfloat_to_float32
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64, as_uint16, atomic_add, half_to_float32
from llorch.kernels.emit.values import (
    F32,
    I16,
    I32,
    Int,
    Strided,
    call,
    constant,
    fma,
    load,
    loop,
    splat,
    store_or_add,
    sum_lanes,
    vector,
)
from llorch.kernels.jit import Unit, inlined, kernel, operation, unit
from llorch.kernels.layout import FLOAT_LANES as LANES
from llorch.kernels.ops.embed import make_embed
from llorch.kernels.ops.matmul import ACCUMULATE, N_IN, N_OUT, WEIGHTS, X, output_of, stored_row
from llorch.kernels.weights.floats_llama_cpp import make_product_llama_cpp
from llorch.kernels.weights.format import WeightFormat
from llorch.quant import types
from llorch.quant.types import QuantType

ROWS = 4
"""Rows a thread claims at a time."""

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)

Widen = Callable[[Any, Any], Any]
"""(builder, raw vector) to float32."""


def _widen_f32(builder: Any, raw: Any) -> Any:
    return builder.bitcast(raw, _FLOATS)


def _widen_bf16(builder: Any, raw: Any) -> Any:
    return builder.bitcast(builder.shl(builder.zext(raw, _WORDS), constant(I32, LANES, 16)), _FLOATS)


def _masked_load(type_: Any, address: Int, mask: Any) -> Any:
    suffix = f"v{LANES}i{type_.element.width}.p0"
    arguments = [address.pointer(type_), ir.Constant(I32, 1), mask, ir.Constant(type_, [0] * LANES)]
    return call(address.builder, f"llvm.masked.load.{suffix}", type_, arguments)


def _last_columns(builder: Any, left: Int) -> Any:
    """A mask of the first `left` lanes."""
    limit = splat(builder, builder.trunc(left.value, I32), LANES)
    return builder.icmp_signed("<", ir.Constant(_WORDS, list(range(LANES))), limit)


def _make_dot(item: int, widen: Widen, n_tokens: int) -> Any:
    """One row of weights with `n_tokens` rows of float32, as a function for kernels of seven int64."""
    raw_type = vector(I32 if item == 4 else I16, LANES)
    tokens = range(n_tokens)

    @emitted()
    def dot(
        builder: Any,
        weights: Int,
        n_in: Int,
        x: Int,
        x_stride: Int,
        out: Int,
        out_stride: Int,
        accumulate: Int,
    ) -> None:
        x_rows, out_rows = Strided(x, x_stride), Strided(out, out_stride)
        x_at = [x_rows[t] for t in tokens]
        n_whole = n_in & -LANES

        def add_whole(i: Int, sums: list[Any]) -> list[Any]:
            column = i * LANES
            w = widen(builder, load(raw_type, weights + column * item))
            return [fma(builder, w, load(_FLOATS, x_at[t] + column * 4, align=4), sums[t]) for t in tokens]

        def add_last(_: Int, sums: list[Any]) -> list[Any]:
            mask = _last_columns(builder, n_in - n_whole)
            w = widen(builder, _masked_load(raw_type, weights + n_whole * item, mask))
            last = [
                builder.bitcast(_masked_load(_WORDS, x_at[t] + n_whole * 4, mask), _FLOATS) for t in tokens
            ]
            return [fma(builder, w, last[t], sums[t]) for t in tokens]

        sums = loop(n_whole >> 4, [constant(F32, LANES, 0.0)] * n_tokens, add_whole)
        has_rest = Int(builder, builder.zext((n_whole < n_in), n_in.value.type))
        sums = loop(has_rest, sums, add_last)
        for t in tokens:
            store_or_add(sum_lanes(builder, sums[t]), out_rows[t], accumulate)

    @kernel
    def run(weights, n_in, x, x_stride, out, out_stride, accumulate):
        dot(weights, n_in, x, x_stride, out, out_stride, accumulate)

    return run


def _make_product(name: str, item: int, widen: Widen) -> Unit:
    dot_4, dot_1 = _make_dot(item, widen, 4), _make_dot(item, widen, 1)

    @operation(f"{name} products", name=f"product_{name.lower()}")
    def product(o, s, n_rows, ith, nth, counter, scratch):
        """One thread's share of a product with float weights (`ops.matmul`).

        weights: (n_out, n_in) as in the file. x: float32 (n_rows, n_in). out: float32 (n_rows, n_out).
        """
        x = as_int64(o[X])
        out, out_stride = output_of(o, s)
        n_in, accumulate = o[N_IN], o[ACCUMULATE]
        while True:
            first = atomic_add(counter, ROWS)
            if first >= o[N_OUT]:
                break
            for row in range(first, min(first + ROWS, o[N_OUT])):
                w = o[WEIGHTS] + stored_row(o, row) * n_in * item
                token = 0
                while token < n_rows:
                    at = out + token * out_stride + row * 4
                    source = x[rounded.VALUES] + token * x[rounded.VALUE_STRIDE]
                    if n_rows - token >= 4:
                        dot_4(w, n_in, source, x[rounded.VALUE_STRIDE], at, out_stride, accumulate)
                        token += 4
                    else:
                        dot_1(w, n_in, source, x[rounded.VALUE_STRIDE], at, out_stride, accumulate)
                        token += 1

    return product


def _make_scan(name: str, pointer: Any, exponent: Any) -> Unit:
    """A unit that looks for values whose exponent bits are all set: NaN and infinities."""

    @unit(f"check of {name} values", 2, name=f"scan_{name.lower()}")
    def scan(address, n):
        """Non-zero if any of `n` values at `address` is NaN or infinite."""
        words = pointer(address)
        bad = 0
        for i in range(n):
            bad |= int((words[i] & exponent) == exponent)
        return bad

    return scan


@inlined
def _value_f32(address, i):
    return as_float32(address)[i]


@inlined
def _value_f16(address, i):
    return half_to_float32(as_uint16(address)[i])


@inlined
def _value_bf16(address, i):
    return bfloat_to_float32(as_uint16(address)[i])


def _make_embed(name: str, value: Any) -> Unit:
    @kernel
    def embed_row(source, n, out):
        x = as_float32(out)
        for i in range(n):
            x[i] = value(source, i)

    return make_embed(name, embed_row)


def _make_format(
    quant: QuantType, activation: ActivationForm | None, widen: Widen, value: Any, words: Any, exponent: Any
) -> WeightFormat:
    return WeightFormat(
        quant=quant,
        activation=activation,
        embed=_make_embed(quant.name, value),
        scan=_make_scan(quant.name, words, exponent),
        fast_product=_make_product(quant.name, quant.block_bytes, widen),
        llama_cpp_product=make_product_llama_cpp(quant, value),
    )


F32_WEIGHTS = _make_format(types.F32, None, _widen_f32, _value_f32, as_int32, int32(0x7F800000))
F16_WEIGHTS = _make_format(types.F16, rounded.F16, half_to_float, _value_f16, as_uint16, uint16(0x7C00))
BF16_WEIGHTS = _make_format(types.BF16, rounded.BF16, _widen_bf16, _value_bf16, as_uint16, uint16(0x7F80))
