"""Products of one or two tokens with Q8_0 rows where they lie in the file: turned round in registers, never stored.

The same block sums in the same order as `q8_dot`, so the same bits; with few tokens, packing a tile first would
write and read everything once more.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.intrinsics import (
    F32,
    I8,
    I32,
    I64,
    constant,
    fma,
    half_to_float,
    intrinsic,
    load,
    loop,
    outlined,
    splat,
    store,
    vector,
)
from llorch.kernels.linear.q8_dot import BIAS, BLOCK, DOT, LANES, QUADS, TILE_ROWS, add_bias
from llorch.kernels.linear.q8_pack import (
    FILE_BLOCK_BYTES,
    emit_row_addresses,
    emit_tile_block,
)

MOST_TOKENS = 2
"""Tokens the kernel can take at a time."""


def _lanes_of(builder: Any, value: Any, part: int) -> Any:
    """Lanes ``part * LANES`` and up of a 16-lane vector."""
    if LANES == TILE_ROWS:
        return value
    mask = ir.Constant(vector(I32, LANES), list(range(part * LANES, (part + 1) * LANES)))
    return builder.shuffle_vector(value, value, mask)


def _emit(builder: Any, args: Any, n_tokens: int) -> None:
    source, row_bytes, n_blocks, q, q_stride, d, s, block_stride, out, out_stride, accumulate = args
    parts, tokens = range(TILE_ROWS // LANES), range(n_tokens)
    bytes_ = vector(I8, LANES * 4)
    ahead = builder.add(source, builder.mul(row_bytes, ir.Constant(I64, TILE_ROWS)))

    def at(base: Any, token: int, stride: Any, index: Any, size: int) -> Any:
        row = builder.add(base, builder.mul(stride, ir.Constant(I64, token)))
        return builder.add(row, builder.mul(index, ir.Constant(I64, size)))

    def body(block: Any, sums: list[Any]) -> list[Any]:
        next_tile = builder.add(ahead, builder.mul(block, ir.Constant(I64, TILE_ROWS * FILE_BLOCK_BYTES)))
        rows = emit_row_addresses(builder, source, row_bytes, block)
        quads, halves = emit_tile_block(builder, rows, next_tile)
        if BIAS:
            quads = [add_bias(builder, quad) for quad in quads]
        after = []
        for t in tokens:
            start = constant(I32, LANES, 0)
            if BIAS:
                start = splat(builder, load(builder, I32, at(s, t, block_stride, block, 4), align=4), LANES)
            x_at = at(q, t, q_stride, block, BLOCK)
            x_scale = splat(builder, load(builder, F32, at(d, t, block_stride, block, 4), align=4), LANES)
            for part in parts:
                # Two chains, since one dot product waits for the one before it; integers do not mind the order.
                chains = [start, constant(I32, LANES, 0)]
                for k in range(QUADS):
                    dword = load(builder, I32, x_at, k * 4, align=4)
                    activation = builder.bitcast(splat(builder, dword, LANES), bytes_)
                    weights = builder.bitcast(_lanes_of(builder, quads[k], part), bytes_)
                    chains[k % 2] = DOT(builder, chains[k % 2], weights, activation)
                total = builder.add(*chains)
                scale = builder.fmul(half_to_float(builder, _lanes_of(builder, halves, part)), x_scale)
                before = sums[t * len(parts) + part]
                after.append(fma(builder, builder.sitofp(total, scale.type), scale, before))
        return after

    zero = constant(F32, LANES, 0.0)
    sums = loop(builder, n_blocks, [zero] * (n_tokens * len(parts)), body)
    for t in tokens:
        for part in parts:
            value = sums[t * len(parts) + part]
            to = at(out, t, out_stride, ir.Constant(I64, part * LANES), 4)
            old = load(builder, value.type, to, align=4)
            is_sum = builder.icmp_signed("!=", accumulate, ir.Constant(I64, 0))
            store(builder, builder.select(is_sum, builder.fadd(value, old), value), to, align=4)


def make_direct(n_tokens: int) -> Any:
    """The kernel for `n_tokens` as a Numba function of three tuples of int64.

    Args of that function (addresses and strides in bytes unless said otherwise):
        w: 16 rows as in the file, their stride, number of blocks (> 0).
        x, y: as in `q8_dot.make_dot`.
    """

    @intrinsic
    def direct(typingctx: Any, w: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            flat = [builder.extract_value(t, i) for t in args for i in range(len(t.type.elements))]
            outlined(
                builder, f"llorch_q8_direct_{n_tokens}", flat, lambda inner, a: _emit(inner, a, n_tokens)
            )
            return context.get_dummy_value()

        return types.void(w, x, y), codegen

    return direct
