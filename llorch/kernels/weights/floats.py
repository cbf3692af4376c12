"""F32, F16 and BF16 weights: used as they lie in the file, nothing is expanded.

Activations arrive already rounded to the weight's own precision where llama.cpp does that (`activations.rounded`). All
rows that a thread claims meet some tokens before they meet the next ones, so that these stay in its cache.
"""

from __future__ import annotations

from typing import Any

from numpy import int32, uint16

from llorch.kernels.activations import rounded
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.convert import bfloat_to_float32
from llorch.kernels.emit.denormals import denormals_as_zeros, set_float_mode
from llorch.kernels.emit.scalars import as_float32, as_int32, as_int64, as_uint16, atomic_add, half_to_float32
from llorch.kernels.jit import Unit, inlined, kernel, merged, operation, unit
from llorch.kernels.ops.embed import make_embed
from llorch.kernels.ops.matmul import ACCUMULATE, N_IN, N_OUT, WEIGHTS, X, output_of, stored_row
from llorch.kernels.weights.float_dots import (
    BF16_STEP,
    F16_STEP,
    F32_STEP,
    ROWS,
    TOKENS,
    Operand,
    make_float_rows,
)
from llorch.kernels.weights.floats_llama_cpp import make_product_llama_cpp
from llorch.kernels.weights.format import WeightFormat
from llorch.quant import types
from llorch.quant.types import QuantType


@inlined
def _one_row(o, row, row_bytes):
    """Addresses of as many rows as the name says, a tuple."""
    return (o[WEIGHTS] + stored_row(o, row) * row_bytes,)


@inlined
def _two_rows(o, row, row_bytes):
    return _one_row(o, row, row_bytes) + _one_row(o, row + 1, row_bytes)


@inlined
def _four_rows(o, row, row_bytes):
    return _two_rows(o, row, row_bytes) + _two_rows(o, row + 2, row_bytes)


_SOME_ROWS = 16
"""Rows a thread claims at a time where tokens are few. (SmolLM2, one token, against 4 rows: F16 1.06 times as fast,
BF16 1.09; 8 and 32 rows are within the spread of that.)"""

_MANY_ROWS = 32
"""Rows a thread claims at a time where tokens are more than fit in its cache."""

_CACHED_BYTES = 1 << 18
"""Of activations that all claimed rows meet before others are fetched: a part of the second cache, where the rows stay,
too. (5632 x 2048 weights, 512 tokens, GMAC/s of two Zen 4 cores, before this and larger micro-kernels: BF16 39 : 208,
F16 38 : 110, F32 37 : 95.)"""

_ADDRESSES = {2: _two_rows, 4: _four_rows}


def _make_product(name: str, weights: Operand, activations: Operand) -> Unit:
    some_rows, one_row = (make_float_rows(weights, activations, n) for n in (ROWS, 1))
    addresses, item = _ADDRESSES[ROWS], weights.item
    is_flushing = weights is BF16_STEP

    @merged
    def multiply(o, row, end, following, x, x_stride, n_tokens, out, out_stride):
        """The rows from number `row` on with some tokens, while those from `following` on are asked for."""
        n_in, accumulate = o[N_IN], o[ACCUMULATE]
        while row + ROWS <= end:
            rows = addresses(o, row, n_in * item)
            at = out + row * 4
            row += ROWS
            ahead = row if row < end else following
            ahead = _one_row(o, ahead, n_in * item)[0] if ahead < o[N_OUT] else rows[0]
            some_rows(rows, n_in, x, x_stride, n_tokens, at, out_stride, accumulate, ahead)
        while row < end:
            rest = _one_row(o, row, n_in * item)
            one_row(rest, n_in, x, x_stride, n_tokens, out + row * 4, out_stride, accumulate, rest[0])
            row += 1

    @operation(f"{name} products", name=f"product_{name.lower()}")
    def product(o, s, n_rows, ith, nth, counter, scratch):
        """One thread's share of a product with float weights (`ops.matmul`).

        weights: (n_out, n_in) as in the file. x: (n_rows, n_in), float32, with BF16 weights the bits of BF16.
        out: float32 (n_rows, n_out).
        """
        mode = denormals_as_zeros() if is_flushing else 0
        form = as_int64(o[X])
        x, x_stride = form[rounded.VALUES], form[rounded.VALUE_STRIDE]
        out, out_stride = output_of(o, s)
        n_cached = max(_CACHED_BYTES // x_stride // TOKENS, 1) * TOKENS
        n_claimed = _SOME_ROWS if n_rows <= n_cached else _MANY_ROWS
        first = atomic_add(counter, n_claimed)
        while first < o[N_OUT]:
            following = atomic_add(counter, n_claimed)
            end = min(first + n_claimed, o[N_OUT])
            for token in range(0, n_rows, n_cached):
                n = min(n_cached, n_rows - token)
                at = out + token * out_stride
                multiply(o, first, end, following, x + token * x_stride, x_stride, n, at, out_stride)
            first = following
        if is_flushing:
            set_float_mode(mode)

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
    quant: QuantType,
    activation: ActivationForm | None,
    steps: tuple[Operand, Operand],
    value: Any,
    words: Any,
    exponent: Any,
) -> WeightFormat:
    return WeightFormat(
        quant=quant,
        activation=activation,
        embed=_make_embed(quant.name, value),
        scan=_make_scan(quant.name, words, exponent),
        fast_product=_make_product(quant.name, *steps),
        llama_cpp_product=make_product_llama_cpp(
            quant, value, _value_bf16 if quant is types.BF16 else _value_f32
        ),
    )


F32_WEIGHTS = _make_format(types.F32, None, (F32_STEP, F32_STEP), _value_f32, as_int32, int32(0x7F800000))
F16_WEIGHTS = _make_format(
    types.F16, rounded.F16, (F16_STEP, F32_STEP), _value_f16, as_uint16, uint16(0x7C00)
)
BF16_WEIGHTS = _make_format(
    types.BF16, rounded.BF16, (BF16_STEP, BF16_STEP), _value_bf16, as_uint16, uint16(0x7F80)
)
