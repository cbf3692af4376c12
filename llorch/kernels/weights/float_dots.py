"""Micro-kernels of float weights: some rows as in the file times some tokens.

Sixteen float32 lanes per output run over the columns in order and are summed in one fixed way, so an output has the
same bits whatever the batch and the shape of the kernel. BF16 runs over pairs of columns: a lane takes the second of a
pair, then the first, as `vdpbf16ps` does. Without that instruction two fused multiply-adds give the same bits; denormal
numbers are zeros to both (`emit.denormals`). AMX's products of BF16 add first and second columns apart, in an order of
their own, and are not used.

Source: AVX512_BF16, `vdpbf16ps`; on Zen 4 bit-exact with two fused multiply-adds for 6.4 million random pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.softmax import sums_of_lanes
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
    prefetch,
    splat,
    store_or_add,
    vector,
)
from llorch.kernels.jit import kernel
from llorch.kernels.layout import FLOAT_LANES as LANES

ROWS, TOKENS = (4, 4) if paths.chosen().lanes == LANES else (2, 2)
"""Of the largest micro-kernel, sized to the registers."""

HAS_BF16 = paths.has("avx512bf16")
"""Whether the CPU multiplies pairs of BF16 itself."""

_FLOATS, _WORDS = vector(F32, LANES), vector(I32, LANES)

Parts = Callable[[Any, Any], list[Any]]
"""(builder, vector as it lies in memory) to vectors of 16 lanes, in the order in which they are added."""


class Operand(NamedTuple):
    """Weights, or activations, of a step.

    Attributes:
        raw: LLVM's vector of a step's columns as they lie in memory.
        parts: what they are to the multiplication.
    """

    raw: Any
    parts: Parts

    @property
    def item(self) -> int:
        """Bytes of a column."""
        return int(self.raw.element.width) // 8


def _widen_f32(builder: Any, raw: Any) -> list[Any]:
    return [builder.bitcast(raw, _FLOATS)]


def _widen_f16(builder: Any, raw: Any) -> list[Any]:
    return [half_to_float(builder, raw)]


def _split_pairs(builder: Any, raw: Any) -> list[Any]:
    pairs = builder.bitcast(raw, _WORDS)
    if HAS_BF16:
        return [pairs]
    second = builder.and_(pairs, constant(I32, LANES, 0xFFFF0000))
    first = builder.shl(pairs, constant(I32, LANES, 16))
    return [builder.bitcast(half, _FLOATS) for half in (second, first)]


F32_STEP = Operand(vector(I32, LANES), _widen_f32)
F16_STEP = Operand(vector(I16, LANES), _widen_f16)
BF16_STEP = Operand(vector(I16, 2 * LANES), _split_pairs)


def _add(builder: Any, w: Sequence[Any], x: Sequence[Any], total: Any) -> Any:
    for a, b in zip(w, x, strict=True):
        if a.type == _WORDS:
            total = call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [total, a, b])
        else:
            total = fma(builder, a, b, total)
    return total


def _masked_load(type_: Any, address: Int, mask: Any) -> Any:
    suffix = f"v{type_.count}i{type_.element.width}.p0"
    arguments = [address.pointer(type_), ir.Constant(I32, 1), mask, ir.Constant(type_, [0] * type_.count)]
    return call(address.builder, f"llvm.masked.load.{suffix}", type_, arguments)


def _make_dot(weights: Operand, activations: Operand, n_rows: int, n_tokens: int) -> Any:
    """A kernel ``dot(rows, n_in, x, x_stride, out, out_stride, accumulate, ahead)`` of one shape."""
    n_columns = weights.raw.count
    tokens = range(n_tokens)

    @emitted()
    def dot(
        builder: Any,
        rows: list[Int],
        n_in: Int,
        x: Int,
        x_stride: Int,
        out: Int,
        out_stride: Int,
        accumulate: Int,
        ahead: Int,
    ) -> None:
        x_rows, out_rows = Strided(x, x_stride), Strided(out, out_stride)
        x_at = [x_rows[t] for t in tokens]
        n_whole = n_in & -n_columns

        def add_step(column: Int, sums: list[Any], read: Callable[[Any, Int], Any]) -> list[Any]:
            w = [weights.parts(builder, read(weights.raw, at + column * weights.item)) for at in rows]
            result = []
            for t in tokens:
                raw = read(activations.raw, x_at[t] + column * activations.item)
                x_parts = activations.parts(builder, raw)
                result += [_add(builder, w[r], x_parts, sums[t * n_rows + r]) for r in range(n_rows)]
            return result

        def add_last(_: Int, sums: list[Any]) -> list[Any]:
            limit = splat(builder, builder.trunc((n_in - n_whole).value, I32), n_columns)
            places = ir.Constant(vector(I32, n_columns), list(range(n_columns)))
            mask = builder.icmp_signed("<", places, limit)
            return add_step(n_whole, sums, lambda type_, at: _masked_load(type_, at, mask))

        zeros = [constant(F32, LANES, 0.0)] * (n_tokens * n_rows)
        n_steps = n_whole >> (n_columns.bit_length() - 1)

        def add_whole(i: Int, sums: list[Any]) -> list[Any]:
            for row in range(n_rows):
                prefetch(ahead + (n_in * row + i * n_columns) * weights.item, level=2)
            return add_step(i * n_columns, sums, load)

        sums = loop(n_steps, zeros, add_whole)
        has_rest = Int(builder, builder.zext((n_whole < n_in), n_in.value.type))
        sums = loop(has_rest, sums, add_last)
        for t in tokens:
            of_token = sums_of_lanes(builder, sums[t * n_rows : (t + 1) * n_rows])
            store_or_add(of_token, out_rows[t], accumulate)

    @kernel
    def run(rows, n_in, x, x_stride, out, out_stride, accumulate, ahead):
        dot(rows, n_in, x, x_stride, out, out_stride, accumulate, ahead)

    return run


def make_float_rows(weights: Operand, activations: Operand, n_rows: int) -> Any:
    """A kernel for some rows: ``multiply(rows, n_in, x, x_stride, n_tokens, out, out_stride, accumulate, ahead)``.

    Its arguments are int64: addresses of the `n_rows` rows of weights, a tuple; columns; address of the first token's
    row and bytes to the next one's; tokens; where the first row's output for the first token goes, float32, and bytes
    to the next token's; whether products are added to what is there; address of the rows that follow, which are asked
    for meanwhile.
    """
    n_together = TOKENS if n_rows == ROWS else 1
    together, alone = (_make_dot(weights, activations, n_rows, n) for n in (n_together, 1))

    @kernel
    def multiply(rows, n_in, x, x_stride, n_tokens, out, out_stride, accumulate, ahead):
        n_whole = n_tokens // n_together * n_together
        for token in range(0, n_whole, n_together):
            at = out + token * out_stride
            together(rows, n_in, x + token * x_stride, x_stride, at, out_stride, accumulate, ahead)
            ahead = rows[0]
        for token in range(n_whole, n_tokens):
            at = out + token * out_stride
            alone(rows, n_in, x + token * x_stride, x_stride, at, out_stride, accumulate, ahead)
            ahead = rows[0]

    return multiply
