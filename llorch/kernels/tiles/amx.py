"""Products of many tokens on AMX; bit for bit those of `tiles.dot`.

A Q8_0 block is 32 columns deep, so one AMX product is 16 (or 8) tokens x 16 rows x 32 columns: A is the quantised
activations where they lie, B is one block of a weight tile as `tiles.pack` stores it (signed on this path), C comes
back as int32 through a small buffer in cache and is added to 16 float32 vectors in registers, in `tiles.dot`'s
order: ``acc = fma(sum, d_w * d_x, acc)``, block after block. Plain integers are simpler (`tiles.amx_plain`).

While AMX works a core has one 512-bit float unit instead of two, which leaves about 500 G multiply-adds per second at
3 GHz. Measured and rejected: biased weights with `tdpbsud` (one more addition per vector, 22 % slower), bfloat16
registers, whose sums need no conversion (twice the bytes, 30 % slower), all AMX products of some blocks first and all
float work after that (slower), activations copied into whole panels, transposed scales (2 %).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import (
    F32,
    I8,
    I16,
    I32,
    I64,
    Int,
    Strided,
    choose,
    constant,
    fma,
    load,
    loop,
    prefetch,
    prefetch_bytes,
    splat,
    store_or_add,
    vector,
)
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.amx_plain import plain_rows
from llorch.kernels.tiles.amx_registers import (
    FEW_TOKENS,
    HAS_AMX,
    LAST_SUMS,
    MANY_TOKENS,
    SUM_BYTES,
    SUMS,
    start_product,
    store_sums,
)
from llorch.kernels.tiles.layout import HALVES_BYTES, QUAD_BYTES, UNIT, TileScheme
from llorch.kernels.tiles.pair_sums import pair_sums

_AHEAD_BYTES = 4096
"""Prefetch distance, for weights that come from memory."""

LEAST_BLOCKS = 2
"""Blocks of 32 are multiplied in pairs, one pair ahead of the float work."""

LEAST_REST, FEW_LEAST_REST = 9, 3
"""Left-over tokens from which a whole AMX product is faster than `tiles.dot`."""

_UNIT_BYTES = TILE_ROWS * UNIT


class _Operands:
    """The kernel's arguments, and what is derived from them once."""

    def __init__(
        self, builder: Any, scheme: TileScheme, args: tuple[Int, ...], n_tokens: int, is_streaming: bool
    ) -> None:
        (self.tiles, self.tile_stride, self.scales, self.scale_stride, self.n_blocks, self.n_tiles, self.next, self.q,
         self.q_stride, d, d_stride, s, s_stride, out, out_stride, self.accumulate, self.skip) = args  # fmt: skip
        self.scheme, self.n_tokens, self.is_streaming = scheme, n_tokens, is_streaming
        self.out, self.d, self.s = Strided(out, out_stride), Strided(d, d_stride), Strided(s, s_stride)
        self.end = self.tiles + self.n_tiles * self.tile_stride
        n_sums = max(2, scheme.sub_blocks)
        buffer = builder.alloca(ir.ArrayType(I8, n_sums * n_tokens * SUM_BYTES))
        buffer.align = 64
        self.buffer = Int(builder, builder.ptrtoint(buffer, I64))
        self.n_pairs = self.n_blocks >> 1
        # Tokens 4i + j: four base addresses plus three strides fit the free registers; one address per token would
        # spill.
        self.steps = [d_stride * j for j in range(4)]
        self.scale_starts = [d + d_stride * (4 * i) for i in range(n_tokens // 4)]
        self.to_sums = s - d


def _emit_fetch(builder: Any, o: _Operands, number: int, sums: int) -> Int:
    """Write C register `sums` to place `number` of the buffer; returns its address."""
    return store_sums(builder, sums, o.buffer + number * o.n_tokens * SUM_BYTES)


def _halves(builder: Any, at: Int) -> Any:
    return half_to_float(builder, load(vector(I16, TILE_ROWS), at, align=16))


def _emit_add(
    builder: Any, o: _Operands, sums_at: Int, w_scales: Int, x_scales: list[Int], acc: list[Any]
) -> list[Any]:
    """Add the int32 sums of a block of 32 to the float32 vectors, one vector of 16 rows per token."""
    w_scale = _halves(builder, w_scales)
    w_minimum = _halves(builder, w_scales + HALVES_BYTES) if o.scheme.minimums else None
    result = []
    for t in range(o.n_tokens):
        sums = load(vector(I32, TILE_ROWS), sums_at, t * SUM_BYTES, align=64)
        x_at = x_scales[t // 4] + o.steps[t % 4]
        scale = builder.fmul(w_scale, splat(builder, load(F32, x_at, align=4), TILE_ROWS))
        value = fma(builder, builder.sitofp(sums, scale.type), scale, acc[t])
        if w_minimum is not None:
            x_sum = splat(builder, load(F32, x_at + o.to_sums, align=4), TILE_ROWS)
            value = fma(builder, w_minimum, x_sum, value)
        result.append(value)
    return result


def _emit_ahead(o: _Operands, weights: Int, pair: Int) -> None:
    """Ask for the weights that come `_AHEAD_BYTES` after this pair of blocks, beyond this call's tiles too."""
    pair_bytes = 2 * (_UNIT_BYTES + o.scheme.scale_bytes)
    at = weights + (pair * pair_bytes + _AHEAD_BYTES)
    at = choose(at.is_below(o.end), at, o.next + (at - o.end))
    prefetch_bytes(at, pair_bytes)


def _emit_blocks(builder: Any, o: _Operands, weights: Int, w_scales: Int, following: Int) -> list[Any]:
    """All blocks of 32 of the row tile at `weights`, whose first pair is under way; starts that of `following`."""
    scale_bytes = o.scheme.scale_bytes

    def body(pair: Int, values: list[Any]) -> list[Any]:
        acc, x_scales = values[: o.n_tokens], values[o.n_tokens :]
        if o.is_streaming:
            _emit_ahead(o, weights, pair)
        is_inside = (pair + 1) < o.n_pairs
        after = choose(is_inside, pair + 1, Int(builder, 0))
        q = o.q + after * (2 * UNIT)
        quants = choose(is_inside, weights, following) + after * (2 * _UNIT_BYTES)
        for half in range(2):
            sums_at = _emit_fetch(builder, o, half, SUMS[half])
            start_product(builder, q + half * UNIT, o.q_stride, quants + half * _UNIT_BYTES, half, SUMS[half])
            scales_at = w_scales + (pair * 2 + half) * scale_bytes
            acc = _emit_add(builder, o, sums_at, scales_at, [x + half * 4 for x in x_scales], acc)
        return [*acc, *(x + 8 for x in x_scales)]

    def odd(_: Int, values: list[Any]) -> list[Any]:
        acc, x_scales = values[: o.n_tokens], values[o.n_tokens :]
        last = o.n_blocks - 1
        start_product(builder, o.q + last * UNIT, o.q_stride, weights + last * _UNIT_BYTES, 0, LAST_SUMS)
        sums_at = _emit_fetch(builder, o, 0, LAST_SUMS)
        return [*_emit_add(builder, o, sums_at, w_scales + last * scale_bytes, x_scales, acc), *x_scales]

    zeros = [constant(F32, TILE_ROWS, 0.0)] * o.n_tokens
    values = loop(o.n_pairs, [*zeros, *o.scale_starts], body)
    return loop(o.n_blocks & 1, values, odd)[: o.n_tokens]


def _emit_super_blocks(builder: Any, o: _Operands, weights: Int, w_scales: Int) -> list[Any]:
    """All blocks with sub-blocks of the row tile at `weights`: an AMX product for each sub-block, then their sum."""
    scheme, n_tokens = o.scheme, o.n_tokens
    words = vector(I32, TILE_ROWS)
    sub_bytes = scheme.sub_block // 4 * QUAD_BYTES

    def scale(at: Int) -> Any:
        value = load(vector(I8, TILE_ROWS), at)
        if scheme.minimums == "nibbles":
            value = builder.and_(value, constant(I8, TILE_ROWS, 15))
        return builder.sext(value, words) if scheme.signed_scales else builder.zext(value, words)

    def body(block: Int, acc: list[Any]) -> list[Any]:
        quants, q = weights + block * (scheme.units * _UNIT_BYTES), o.q + block * scheme.block
        scales_at = w_scales + block * scheme.scale_bytes
        for i in range(scheme.sub_blocks):
            half = i % 2
            start_product(
                builder, q + i * scheme.sub_block, o.q_stride, quants + i * sub_bytes, half, SUMS[half]
            )
            _emit_fetch(builder, o, i, SUMS[half])
        others: list[Any] = []
        if scheme.minimums:
            others = pair_sums(builder, scheme, [scales_at], [o.s[t] for t in range(n_tokens)], block)
        scales = [scale(scales_at + i * TILE_ROWS) for i in range(scheme.sub_blocks)]
        d = _halves(builder, scales_at + scheme.d_at)
        dmin = _halves(builder, scales_at + (scheme.d_at + HALVES_BYTES)) if scheme.minimums else None
        result = []
        for t in range(n_tokens):
            total = constant(I32, TILE_ROWS, 0)
            for i, factor in enumerate(scales):
                sums = load(words, o.buffer, (i * n_tokens + t) * SUM_BYTES, align=64)
                total = builder.add(total, builder.mul(sums, factor))
            x_scale = splat(builder, load(F32, o.d[t] + block * 4, align=4), TILE_ROWS)
            value = fma(builder, builder.sitofp(total, d.type), builder.fmul(d, x_scale), acc[t])
            if dmin is not None:
                lower = builder.fneg(builder.sitofp(others[t], d.type))
                value = fma(builder, lower, builder.fmul(dmin, x_scale), value)
            result.append(value)
        return result

    return loop(o.n_blocks, [constant(F32, TILE_ROWS, 0.0)] * n_tokens, body)


def _out_at(o: _Operands, tile: Int, token: int) -> Int:
    """Where the results of one row tile and token go; tokens to skip go to the buffer, that is, nowhere."""
    row = o.out[token] + tile * (TILE_ROWS * 4)
    return choose(Int(row.builder, token) < o.skip, o.buffer, row)


def _emit(builder: Any, scheme: TileScheme, args: tuple[Int, ...], n_tokens: int, is_streaming: bool) -> None:
    o = _Operands(builder, scheme, args, n_tokens, is_streaming)
    if not scheme.has_sub_blocks and not scheme.is_plain:
        for half in range(2):
            start_product(builder, o.q + half * UNIT, o.q_stride, o.tiles + half * _UNIT_BYTES, half, half)
    last = o.n_tiles - 1

    def body(tile: Int, _: list[Any]) -> list[Any]:
        weights, scales = o.tiles + tile * o.tile_stride, o.scales + tile * o.scale_stride
        for token in range(n_tokens):
            prefetch(_out_at(o, tile, token), for_writing=True)
        if scheme.is_plain:
            values = plain_rows(builder, o, weights, scales, _emit_ahead if o.is_streaming else None)
        elif scheme.has_sub_blocks:
            values = _emit_super_blocks(builder, o, weights, scales)
        else:
            # After the last tile the pair started ahead is one that is not read.
            following = choose(tile.equals(last), weights, weights + o.tile_stride)
            values = _emit_blocks(builder, o, weights, scales, following)
        for token, value in enumerate(values):
            store_or_add(value, _out_at(o, tile, token), o.accumulate)
        return []

    loop(o.n_tiles, [], body)


def _make_multiply(scheme: TileScheme, n_tokens: int, is_streaming: bool) -> Any:
    name = f"llorch_{scheme.name}_amx_{n_tokens}" + ("_streaming" if is_streaming else "")

    @emitted()
    def multiply(builder: Any, w: list[Int], x: list[Int], y: list[Int]) -> None:
        if HAS_AMX:
            emit = lambda inner, *args: _emit(inner, scheme, args, n_tokens, is_streaming)  # noqa: E731
            outlined(name, [*w, *x, *y], emit)

    return multiply


def make_amx(scheme: TileScheme) -> tuple[Any, Any, Any]:
    """Functions for kernels, of three tuples of int64, which multiply some tokens with some tiles.

    Returns:
        ``multiply_many`` and ``stream_many`` for 16 tokens (`MANY_TOKENS`), ``stream_few`` for 8 (`FEW_TOKENS`),
        between opening AMX for as many (`amx_registers.make_open`) and `close_amx`. Those that stream are for weights
        that come from memory; on the way they ask for the next ones. Only whole bytes are streamed, others come from
        cache.

    Args of these functions (addresses and strides in bytes unless said otherwise):
        w: quants of the first tile, int8 with the scheme's offset taken off, their stride, its scales, their stride,
            number of blocks (at least `LEAST_BLOCKS` of 32), number of tiles (> 0), where weights needed after these
            tiles begin (asked for when streaming).
        x: as in `tiles.dot.make_dot`.
        y: float32 out, its row stride, whether the product is added to what is there, number of tokens at the beginning
            that are not wanted.
    """
    streams = scheme.planes == (8,)
    many = _make_multiply(scheme, MANY_TOKENS, is_streaming=False)
    stream_many = _make_multiply(scheme, MANY_TOKENS, is_streaming=True) if streams else many
    return many, stream_many, _make_multiply(scheme, FEW_TOKENS, is_streaming=streams)
