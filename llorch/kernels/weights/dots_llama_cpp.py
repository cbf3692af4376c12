"""One row of decoded weights with one of quantised activations, as registers of llama.cpp's AVX2 build hold the sums.

A lane adds what four neighbouring columns of each 32 give: integers within a block, float32 from block to block.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import (
    F32,
    I8,
    I16,
    I32,
    Int,
    constant,
    fma,
    load,
    loop,
    splat,
    sum_lanes,
    vector,
)
from llorch.kernels.emit.vectors import add_neighbours

_LANES = 8
_NO_SUMS = constant(F32, _LANES, 0.0)


def _quads(builder: Any, w: Int, x: Int) -> Any:
    """Sums of the products of four neighbours each among 32 int8: int32 (8,)."""
    w_values, x_values = (builder.sext(load(vector(I8, 32), at), vector(I32, 32)) for at in (w, x))
    return add_neighbours(builder, add_neighbours(builder, builder.mul(w_values, x_values)))


def _add_scaled(builder: Any, scale: Any, integers: Any, sums: Any) -> Any:
    """``scale * integers + sums``, fused; integers int32 (n,), sums float32 (n,)."""
    return fma(builder, splat(builder, scale, sums.type.count), builder.sitofp(integers, sums.type), sums)


def make_dot_32(*, has_minimum: bool, n_registers: int = 1) -> Any:
    """The dot product of blocks of 32 with Q8_0 activations.

    Args:
        has_minimum: whether a block adds its minimum times the activations' weighted sum.
        n_registers: how many take blocks by turns; a block that is left over after the last turn is added to the sum.

    Returns:
        ``dot((q, d, m, scales, minima), (q, d, weighted), n_blocks)``: addresses, a count; float32.
    """

    @emitted(types.float32)
    def dot(builder: Any, w: list[Int], x: list[Int], n_blocks: Int) -> Any:
        def add_block(block: Int, sums: Any, *, is_left_over: bool = False) -> Any:
            quads = _quads(builder, w[0] + block * 32, x[0] + block * 32)
            scale = builder.fmul(load(F32, w[1] + block * 4), load(F32, x[1] + block * 4))
            while is_left_over and quads.type.count > 1:
                quads = add_neighbours(builder, quads)
            return _add_scaled(builder, scale, quads, sums)

        def turn(i: Int, state: list[Any]) -> list[Any]:
            *registers, minima = state
            blocks = [i * n_registers + k for k in range(n_registers)]
            if has_minimum:
                m, weighted = (load(F32, at + i * 4) for at in (w[2], x[2]))
                minima = fma(builder, m, weighted, minima)
            return [*map(add_block, blocks, registers), minima]

        n_turns = n_blocks >> (n_registers - 1)
        *registers, minima = loop(n_turns, [_NO_SUMS] * n_registers + [ir.Constant(F32, 0.0)], turn)
        while len(registers) > 1:
            registers[:2] = [builder.fadd(*registers[:2])]
        total = sum_lanes(builder, registers[0])
        if has_minimum:
            return builder.fadd(total, minima)
        if n_registers == 1:
            return total
        done = n_turns * n_registers
        (last,) = loop(
            n_blocks - done,
            [splat(builder, total, 1)],
            lambda i, state: [add_block(done + i, state[0], is_left_over=True)],
        )
        return sum_lanes(builder, last)

    return dot


def make_dot_256(*, scale_columns: int, minimum_lanes: int = 0, offset: int = 0) -> Any:
    """The dot product of blocks of 256 with Q8_K activations.

    Args:
        scale_columns: columns that share a scale: 16 or 32.
        minimum_lanes: lanes that add minima times sums of activations: 8 are those of the products, others come last.
        offset: what is to be subtracted from each weight, by the sums of 16 activations.

    Returns:
        ``dot((q, d, m, scales, minima), (q, d, sums of scale_columns), n_blocks)``: addresses, a count; float32.
    """
    n_scales = 256 // scale_columns
    places = ir.Constant(vector(I32, _LANES), [lane * 4 // scale_columns for lane in range(_LANES)])

    @emitted(types.float32)
    def dot(builder: Any, w: list[Int], x: list[Int], n_blocks: Int) -> Any:
        def by_sums(factors: Int, block: Int, n_lanes: int) -> Any:
            """int8 factors of a block times the activations' sums, neighbours added until `n_lanes` are left."""
            factor = builder.sext(
                load(vector(I8, n_scales), factors + block * n_scales), vector(I32, n_scales)
            )
            sums = load(vector(I16, n_scales), x[2] + block * (2 * n_scales))
            products = builder.mul(factor, builder.sext(sums, vector(I32, n_scales)))
            while products.type.count > n_lanes:
                products = add_neighbours(builder, products)
            return products

        def add_block(block: Int, state: list[Any]) -> list[Any]:
            sums, minima = state
            integers = constant(I32, _LANES, 0)
            for group in range(8):
                at = w[3] + block * n_scales + group * 32 // scale_columns
                raw = load(vector(I8, 32 // scale_columns), at)
                few = builder.sext(raw, vector(I32, raw.type.count))
                scale = builder.shuffle_vector(few, ir.Constant(few.type, ir.Undefined), places)
                column = block * 256 + group * 32
                quads = _quads(builder, w[0] + column, x[0] + column)
                integers = builder.add(integers, builder.mul(quads, scale))
            if offset:
                shift = builder.mul(by_sums(w[3], block, _LANES), constant(I32, _LANES, offset))
                integers = builder.sub(integers, shift)
            x_scale = load(F32, x[1] + block * 4)
            if minimum_lanes:
                m = builder.fmul(builder.fneg(x_scale), load(F32, w[2] + block * 4))
                products = by_sums(w[4], block, minimum_lanes)
                if minimum_lanes == _LANES:
                    sums = _add_scaled(builder, m, products, sums)
                else:
                    minima = _add_scaled(builder, m, products, minima)
            scale = builder.fmul(x_scale, load(F32, w[1] + block * 4))
            return [_add_scaled(builder, scale, integers, sums), minima]

        sums, minima = loop(n_blocks, [_NO_SUMS, constant(F32, max(minimum_lanes, 1), 0.0)], add_block)
        total = sum_lanes(builder, sums)
        if minimum_lanes in (0, _LANES):
            return total
        return builder.fadd(total, sum_lanes(builder, minima))

    return dot
