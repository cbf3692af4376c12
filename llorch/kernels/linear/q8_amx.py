"""Q8_0 products of many tokens on the tile unit (AMX), emitted as LLVM IR; bit for bit those of `q8_dot`.

A Q8_0 block is 32 columns deep, so one tile product is 16 (or 8) tokens x 16 rows x 32 columns: A is the quantised
activations where they lie, B is one block of a weight tile as `q8_pack` stores it (signed on this path), C comes
back as int32 through a small buffer in cache and is added to 16 float32 vectors in registers, in `q8_dot`'s
order: ``acc = fma(sum, d_w * d_x, acc)``, block after block.

While tiles are at work a core has one 512-bit float unit instead of two, which leaves about 500 G multiply-adds
per second at 3 GHz. Measured and rejected: biased weights with `tdpbsud` (one more addition per vector, 22 % slower),
bfloat16 tiles, whose sums need no conversion (twice the bytes, 30 % slower), all tile products of some blocks first
and all float work after that (slower), activations copied into whole panels, transposed scales (2 %).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.intrinsics import (
    F32,
    I8,
    I16,
    I32,
    I64,
    call,
    constant,
    fma,
    half_to_float,
    intrinsic,
    load,
    loop,
    outlined,
    prefetch,
    splat,
    store,
    vector,
)
from llorch.kernels.linear.q8_dot import AHEAD_BYTES, BLOCK, PATH, QUANT_BYTES, SCALE_BYTES, TILE_ROWS

GROUP_TOKENS, FEW_TOKENS = 16, 8
"""Tokens of one tile product: of a prompt's, and of a few sequences that decode together."""

HAS_TILES = PATH == "amx"
"""Whether this path has a tile unit. On the others the functions below emit nothing and must not be reached."""

LEAST_BLOCKS = 2
"""Blocks are multiplied in pairs, one pair ahead of the float work."""

LEAST_REST, FEW_LEAST_REST = 9, 3
"""Left-over tokens from which a whole tile product is faster than `q8_dot`."""

_SUMS, _LAST_SUMS, _TOKENS, _WEIGHTS = (0, 1), 2, (4, 6), (5, 7)
"""Tile registers: C, C of an odd last block, A and B, each for the two blocks of a pair."""

_VOID = ir.VoidType()
_SUM_BYTES = TILE_ROWS * 4


def _register(number: int) -> Any:
    return ir.Constant(I8, number)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, I8.as_pointer())


def _scaled(builder: Any, value: Any, factor: int) -> Any:
    return builder.mul(value, ir.Constant(I64, factor))


def _config_bytes(n_tokens: int) -> bytearray:
    """What `ldtilecfg` reads: palette 1, then bytes per row (uint16, from 16) and rows (from 48) per register."""
    config = bytearray(64)
    config[0] = 1
    shapes = dict.fromkeys((*_SUMS, _LAST_SUMS), (n_tokens, _SUM_BYTES))
    shapes |= dict.fromkeys(_TOKENS, (n_tokens, BLOCK)) | dict.fromkeys(_WEIGHTS, (BLOCK // 4, _SUM_BYTES))
    for register, (rows, row_bytes) in shapes.items():
        config[16 + 2 * register] = row_bytes
        config[48 + register] = rows
    return config


def _make_open(n_tokens: int) -> Any:
    @intrinsic
    def open_tiles(typingctx):
        """Configure this thread's tile registers; until `close_tiles`, switching threads costs 8 KB more."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if HAS_TILES:
                name = f"llorch_tile_config_{n_tokens}"
                config = builder.module.globals.get(name)
                if config is None:
                    value = ir.Constant(ir.ArrayType(I8, 64), _config_bytes(n_tokens))
                    config = ir.GlobalVariable(builder.module, value.type, name)
                    config.initializer, config.global_constant = value, True
                    config.linkage, config.align = "internal", 64
                call(builder, "llvm.x86.ldtilecfg", _VOID, [builder.bitcast(config, I8.as_pointer())])
            return context.get_dummy_value()

        return types.void(), codegen

    return open_tiles


open_tiles, open_few = _make_open(GROUP_TOKENS), _make_open(FEW_TOKENS)


@intrinsic
def close_tiles(typingctx: Any) -> Any:
    """Give the tile registers back."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if HAS_TILES:
            call(builder, "llvm.x86.tilerelease", _VOID, [])
        return context.get_dummy_value()

    return types.void(), codegen


class _Operands:
    """The kernel's arguments as LLVM values, and what is derived from them once."""

    def __init__(self, builder: Any, args: Any, n_tokens: int, is_streaming: bool) -> None:
        (self.tiles, self.tile_stride, self.n_blocks, self.n_tiles, self.next, self.q, self.q_stride, self.d,
         self.block_stride, self.out, self.out_stride, self.accumulate, self.skip) = args  # fmt: skip
        self.n_tokens, self.is_streaming = n_tokens, is_streaming
        self.end = builder.add(self.tiles, builder.mul(self.n_tiles, self.tile_stride))
        buffer = builder.alloca(ir.ArrayType(I8, 2 * n_tokens * _SUM_BYTES))
        buffer.align = 64
        self.buffer = builder.ptrtoint(buffer, I64)
        self.n_pairs = builder.lshr(self.n_blocks, ir.Constant(I64, 1))
        # Tokens 4i + j: four running addresses and three strides, which is what registers there are.
        self.steps = [_scaled(builder, self.block_stride, j) for j in range(4)]
        fours = [_scaled(builder, self.block_stride, 4 * i) for i in range(n_tokens // 4)]
        self.scale_starts = [builder.add(self.d, four) for four in fours]


def _emit_product(builder: Any, o: _Operands, q: Any, weights: Any, half: int, sums: int) -> None:
    """Start the product of one block: the tokens at `q`, 16 rows at `weights`, into C register `sums`."""
    a, b = _register(_TOKENS[half]), _register(_WEIGHTS[half])
    c, row_bytes = _register(sums), ir.Constant(I64, _SUM_BYTES)
    call(builder, "llvm.x86.tileloadd64", _VOID, [a, _pointer(builder, q), o.q_stride])
    call(builder, "llvm.x86.tileloadd64", _VOID, [b, _pointer(builder, weights), row_bytes])
    call(builder, "llvm.x86.tilezero", _VOID, [c])
    call(builder, "llvm.x86.tdpbssd", _VOID, [c, a, b])


def _emit_pair(builder: Any, o: _Operands, q: Any, weights: Any) -> None:
    for half in range(2):
        q_at = builder.add(q, ir.Constant(I64, half * BLOCK))
        _emit_product(
            builder, o, q_at, builder.add(weights, ir.Constant(I64, half * QUANT_BYTES)), half, half
        )


def _emit_fetch(builder: Any, o: _Operands, half: int, sums: int) -> Any:
    """Write C register `sums` to one half of the buffer; returns its address."""
    at = builder.add(o.buffer, ir.Constant(I64, half * o.n_tokens * _SUM_BYTES))
    arguments = [_register(sums), _pointer(builder, at), ir.Constant(I64, _SUM_BYTES)]
    call(builder, "llvm.x86.tilestored64", _VOID, arguments)
    return at


def _emit_add(
    builder: Any, o: _Operands, sums_at: Any, w_scales: Any, x_scales: list[Any], acc: list[Any]
) -> list[Any]:
    """Add one block's int32 sums to the float32 vectors, one vector of 16 rows per token."""
    halves = load(builder, vector(I16, TILE_ROWS), w_scales, align=32)
    w_scale = half_to_float(builder, halves)
    result = []
    for t in range(o.n_tokens):
        sums = load(builder, vector(I32, TILE_ROWS), sums_at, t * _SUM_BYTES, align=64)
        x_scale = load(builder, F32, builder.add(x_scales[t // 4], o.steps[t % 4]), align=4)
        scale = builder.fmul(w_scale, splat(builder, x_scale, TILE_ROWS))
        result.append(fma(builder, builder.sitofp(sums, scale.type), scale, acc[t]))
    return result


def _emit_ahead(builder: Any, o: _Operands, weights: Any, pair: Any) -> None:
    """Ask for the weights that come `AHEAD_BYTES` after this pair of blocks, beyond this call's tiles too."""
    pair_bytes = 2 * (QUANT_BYTES + SCALE_BYTES)
    at = builder.add(weights, builder.add(_scaled(builder, pair, pair_bytes), ir.Constant(I64, AHEAD_BYTES)))
    beyond = builder.add(o.next, builder.sub(at, o.end))
    at = builder.select(builder.icmp_unsigned("<", at, o.end), at, beyond)
    for offset in range(0, pair_bytes, 64):
        prefetch(builder, builder.add(at, ir.Constant(I64, offset)))


def _emit_blocks(builder: Any, o: _Operands, weights: Any, following: Any) -> list[Any]:
    """All blocks of the row tile at `weights`, whose first pair is under way; starts that of `following`."""
    w_scales = builder.add(weights, _scaled(builder, o.n_blocks, QUANT_BYTES))

    def body(pair: Any, values: list[Any]) -> list[Any]:
        acc, x_scales = values[: o.n_tokens], values[o.n_tokens :]
        if o.is_streaming:
            _emit_ahead(builder, o, weights, pair)
        after = builder.add(pair, ir.Constant(I64, 1))
        is_inside = builder.icmp_signed("<", after, o.n_pairs)
        after = builder.select(is_inside, after, ir.Constant(I64, 0))
        base = builder.select(is_inside, weights, following)
        q = builder.add(o.q, _scaled(builder, after, 2 * BLOCK))
        quants = builder.add(base, _scaled(builder, after, 2 * QUANT_BYTES))
        for half in range(2):
            sums_at = _emit_fetch(builder, o, half, _SUMS[half])
            q_at = builder.add(q, ir.Constant(I64, half * BLOCK))
            quants_at = builder.add(quants, ir.Constant(I64, half * QUANT_BYTES))
            _emit_product(builder, o, q_at, quants_at, half, _SUMS[half])
            block = builder.add(_scaled(builder, pair, 2), ir.Constant(I64, half))
            scales_at = builder.add(w_scales, _scaled(builder, block, SCALE_BYTES))
            x_at = [builder.add(x, ir.Constant(I64, half * 4)) for x in x_scales]
            acc = _emit_add(builder, o, sums_at, scales_at, x_at, acc)
        return [*acc, *(builder.add(x, ir.Constant(I64, 8)) for x in x_scales)]

    def odd(_: Any, values: list[Any]) -> list[Any]:
        acc, x_scales = values[: o.n_tokens], values[o.n_tokens :]
        last = builder.sub(o.n_blocks, ir.Constant(I64, 1))
        q = builder.add(o.q, _scaled(builder, last, BLOCK))
        _emit_product(builder, o, q, builder.add(weights, _scaled(builder, last, QUANT_BYTES)), 0, _LAST_SUMS)
        sums_at = _emit_fetch(builder, o, 0, _LAST_SUMS)
        scales_at = builder.add(w_scales, _scaled(builder, last, SCALE_BYTES))
        return [*_emit_add(builder, o, sums_at, scales_at, x_scales, acc), *x_scales]

    zeros = [constant(F32, TILE_ROWS, 0.0)] * o.n_tokens
    values = loop(builder, o.n_pairs, [*zeros, *o.scale_starts], body)
    n_odd = builder.and_(o.n_blocks, ir.Constant(I64, 1))
    return loop(builder, n_odd, values, odd)[: o.n_tokens]


def _out_at(builder: Any, o: _Operands, tile: Any, token: int) -> Any:
    """Where the results of one row tile and token go; tokens to skip go to the buffer, that is, nowhere."""
    row = builder.add(
        o.out, builder.add(_scaled(builder, tile, TILE_ROWS * 4), _scaled(builder, o.out_stride, token))
    )
    return builder.select(builder.icmp_signed("<", ir.Constant(I64, token), o.skip), o.buffer, row)


def _emit_out(builder: Any, o: _Operands, tile: Any, acc: list[Any]) -> None:
    """Write (or add) the results of one row tile."""
    is_sum = builder.icmp_signed("!=", o.accumulate, ir.Constant(I64, 0))
    for t, value in enumerate(acc):
        at = _out_at(builder, o, tile, t)
        with builder.if_else(is_sum) as (add, plain):
            with add:
                store(builder, builder.fadd(value, load(builder, value.type, at, align=4)), at, align=4)
            with plain:
                store(builder, value, at, align=4)


def _emit(builder: Any, args: Any, n_tokens: int, is_streaming: bool) -> None:
    o = _Operands(builder, args, n_tokens, is_streaming)
    _emit_pair(builder, o, o.q, o.tiles)
    last = builder.sub(o.n_tiles, ir.Constant(I64, 1))

    def body(tile: Any, _: list[Any]) -> list[Any]:
        weights = builder.add(o.tiles, builder.mul(tile, o.tile_stride))
        # After the last tile the pair started ahead is one that nobody reads.
        is_last = builder.icmp_signed("==", tile, last)
        following = builder.select(is_last, weights, builder.add(weights, o.tile_stride))
        for token in range(n_tokens):
            prefetch(builder, _out_at(builder, o, tile, token), for_writing=True)
        _emit_out(builder, o, tile, _emit_blocks(builder, o, weights, following))
        return []

    loop(builder, o.n_tiles, [], body)


def _make_multiply(n_tokens: int, is_streaming: bool) -> Any:
    name = f"llorch_q8_amx_{n_tokens}" + ("_streaming" if is_streaming else "")

    @intrinsic
    def multiply_group(typingctx, w, x, y):
        """A group of tokens against some row tiles, between opening tiles for as many and `close_tiles`.

        Args (tuples of int64; addresses and strides in bytes unless said otherwise):
            w: first tile, tile stride, number of blocks (at least 2), number of tiles (> 0), where weights needed
                after these tiles begin (asked for when streaming).
            x: int8 activations, their row stride, float32 scales, their row stride.
            y: float32 out, its row stride, whether the product is added to what stands there, number of tokens
                at the beginning that are not wanted.
        """

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if HAS_TILES:
                flat = [builder.extract_value(t, i) for t in args for i in range(len(t.type.elements))]
                outlined(builder, name, flat, lambda inner, a: _emit(inner, a, n_tokens, is_streaming))
            return context.get_dummy_value()

        return types.void(w, x, y), codegen

    return multiply_group


multiply_group = _make_multiply(GROUP_TOKENS, is_streaming=False)
stream_group = _make_multiply(GROUP_TOKENS, is_streaming=True)
stream_few = _make_multiply(FEW_TOKENS, is_streaming=True)
"""`multiply_group` for weights that come from memory; on the way it asks for the next ones."""
