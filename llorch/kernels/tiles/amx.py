"""Q8_0 products of many tokens on AMX; bit for bit those of `tiles.dot`.

A Q8_0 block is 32 columns deep, so one AMX product is 16 (or 8) tokens x 16 rows x 32 columns: A is the quantised
activations where they lie, B is one block of a weight tile as `tiles.pack` stores it (signed on this path), C comes
back as int32 through a small buffer in cache and is added to 16 float32 vectors in registers, in `tiles.dot`'s
order: ``acc = fma(sum, d_w * d_x, acc)``, block after block.

While AMX works a core has one 512-bit float unit instead of two, which leaves about 500 G multiply-adds per second at
3 GHz. Measured and rejected: biased weights with `tdpbsud` (one more addition per vector, 22 % slower), bfloat16
registers, whose sums need no conversion (twice the bytes, 30 % slower), all AMX products of some blocks first and all
float work after that (slower), activations copied into whole panels, transposed scales (2 %).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import (
    F32,
    I8,
    I16,
    I32,
    I64,
    VOID,
    Int,
    Strided,
    call,
    choose,
    constant,
    fma,
    load,
    loop,
    prefetch,
    splat,
    store_or_add,
    vector,
)
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.dot import AHEAD_BYTES
from llorch.kernels.tiles.layout import BLOCK, QUANT_BYTES, SCALE_BYTES

MANY_TOKENS, FEW_TOKENS = 16, 8
"""Tokens of one AMX product: of a prompt's, and of a few sequences that decode together."""

HAS_AMX = paths.path() == "amx"
"""Whether this path uses AMX. On the others the functions below emit nothing and must not be reached."""

LEAST_BLOCKS = 2
"""Blocks are multiplied in pairs, one pair ahead of the float work."""

LEAST_REST, FEW_LEAST_REST = 9, 3
"""Left-over tokens from which a whole AMX product is faster than `tiles.dot`."""

_SUMS, _LAST_SUMS, _TOKENS, _WEIGHTS = (0, 1), 2, (4, 6), (5, 7)
"""AMX registers: C, C of an odd last block, A and B, each for the two blocks of a pair."""

_SUM_BYTES = TILE_ROWS * 4


def _register(number: int) -> Any:
    return ir.Constant(I8, number)


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
    @emitted(types.void())
    def open_registers(builder: Any) -> None:
        """Configure this thread's AMX registers; until `close_amx`, switching threads costs 8 KB more."""
        if HAS_AMX:
            name = f"llorch_tile_config_{n_tokens}"
            config = builder.module.globals.get(name)
            if config is None:
                value = ir.Constant(ir.ArrayType(I8, 64), _config_bytes(n_tokens))
                config = ir.GlobalVariable(builder.module, value.type, name)
                config.initializer, config.global_constant = value, True
                config.linkage, config.align = "internal", 64
            call(builder, "llvm.x86.ldtilecfg", VOID, [builder.bitcast(config, I8.as_pointer())])

    return open_registers


open_many, open_few = _make_open(MANY_TOKENS), _make_open(FEW_TOKENS)


@emitted(types.void())
def close_amx(builder: Any) -> None:
    """Give the AMX registers back."""
    if HAS_AMX:
        call(builder, "llvm.x86.tilerelease", VOID, [])


class _Operands:
    """The kernel's arguments, and what is derived from them once."""

    def __init__(self, builder: Any, args: tuple[Int, ...], n_tokens: int, is_streaming: bool) -> None:
        (self.tiles, self.tile_stride, self.n_blocks, self.n_tiles, self.next, self.q, self.q_stride, d,
         block_stride, out, out_stride, self.accumulate, self.skip) = args  # fmt: skip
        self.n_tokens, self.is_streaming = n_tokens, is_streaming
        self.out = Strided(out, out_stride)
        self.end = self.tiles + self.n_tiles * self.tile_stride
        buffer = builder.alloca(ir.ArrayType(I8, 2 * n_tokens * _SUM_BYTES))
        buffer.align = 64
        self.buffer = Int(builder, builder.ptrtoint(buffer, I64))
        self.n_pairs = self.n_blocks >> 1
        # Tokens 4i + j: four base addresses plus three strides fit the free registers; one address per token would
        # spill.
        self.steps = [block_stride * j for j in range(4)]
        self.scale_starts = [d + block_stride * (4 * i) for i in range(n_tokens // 4)]


def _emit_product(builder: Any, o: _Operands, q: Int, weights: Int, half: int, sums: int) -> None:
    """Start the product of one block: the tokens at `q`, 16 rows at `weights`, into C register `sums`."""
    a, b, c = _register(_TOKENS[half]), _register(_WEIGHTS[half]), _register(sums)
    call(builder, "llvm.x86.tileloadd64", VOID, [a, q.pointer(I8), o.q_stride.value])
    call(builder, "llvm.x86.tileloadd64", VOID, [b, weights.pointer(I8), ir.Constant(I64, _SUM_BYTES)])
    call(builder, "llvm.x86.tilezero", VOID, [c])
    call(builder, "llvm.x86.tdpbssd", VOID, [c, a, b])


def _emit_fetch(builder: Any, o: _Operands, half: int, sums: int) -> Int:
    """Write C register `sums` to one half of the buffer; returns its address."""
    at = o.buffer + half * o.n_tokens * _SUM_BYTES
    arguments = [_register(sums), at.pointer(I8), ir.Constant(I64, _SUM_BYTES)]
    call(builder, "llvm.x86.tilestored64", VOID, arguments)
    return at


def _emit_add(
    builder: Any, o: _Operands, sums_at: Int, w_scales: Int, x_scales: list[Int], acc: list[Any]
) -> list[Any]:
    """Add one block's int32 sums to the float32 vectors, one vector of 16 rows per token."""
    w_scale = half_to_float(builder, load(vector(I16, TILE_ROWS), w_scales, align=32))
    result = []
    for t in range(o.n_tokens):
        sums = load(vector(I32, TILE_ROWS), sums_at, t * _SUM_BYTES, align=64)
        x_scale = load(F32, x_scales[t // 4] + o.steps[t % 4], align=4)
        scale = builder.fmul(w_scale, splat(builder, x_scale, TILE_ROWS))
        result.append(fma(builder, builder.sitofp(sums, scale.type), scale, acc[t]))
    return result


def _emit_ahead(o: _Operands, weights: Int, pair: Int) -> None:
    """Ask for the weights that come `AHEAD_BYTES` after this pair of blocks, beyond this call's tiles too."""
    pair_bytes = 2 * (QUANT_BYTES + SCALE_BYTES)
    at = weights + (pair * pair_bytes + AHEAD_BYTES)
    at = choose(at.is_below(o.end), at, o.next + (at - o.end))
    for offset in range(0, pair_bytes, 64):
        prefetch(at + offset)


def _emit_blocks(builder: Any, o: _Operands, weights: Int, following: Int) -> list[Any]:
    """All blocks of the row tile at `weights`, whose first pair is under way; starts that of `following`."""
    w_scales = weights + o.n_blocks * QUANT_BYTES

    def body(pair: Int, values: list[Any]) -> list[Any]:
        acc, x_scales = values[: o.n_tokens], values[o.n_tokens :]
        if o.is_streaming:
            _emit_ahead(o, weights, pair)
        is_inside = (pair + 1) < o.n_pairs
        after = choose(is_inside, pair + 1, Int(builder, 0))
        q = o.q + after * (2 * BLOCK)
        quants = choose(is_inside, weights, following) + after * (2 * QUANT_BYTES)
        for half in range(2):
            sums_at = _emit_fetch(builder, o, half, _SUMS[half])
            _emit_product(builder, o, q + half * BLOCK, quants + half * QUANT_BYTES, half, _SUMS[half])
            scales_at = w_scales + (pair * 2 + half) * SCALE_BYTES
            acc = _emit_add(builder, o, sums_at, scales_at, [x + half * 4 for x in x_scales], acc)
        return [*acc, *(x + 8 for x in x_scales)]

    def odd(_: Int, values: list[Any]) -> list[Any]:
        acc, x_scales = values[: o.n_tokens], values[o.n_tokens :]
        last = o.n_blocks - 1
        _emit_product(builder, o, o.q + last * BLOCK, weights + last * QUANT_BYTES, 0, _LAST_SUMS)
        sums_at = _emit_fetch(builder, o, 0, _LAST_SUMS)
        return [*_emit_add(builder, o, sums_at, w_scales + last * SCALE_BYTES, x_scales, acc), *x_scales]

    zeros = [constant(F32, TILE_ROWS, 0.0)] * o.n_tokens
    values = loop(o.n_pairs, [*zeros, *o.scale_starts], body)
    return loop(o.n_blocks & 1, values, odd)[: o.n_tokens]


def _out_at(o: _Operands, tile: Int, token: int) -> Int:
    """Where the results of one row tile and token go; tokens to skip go to the buffer, that is, nowhere."""
    row = o.out[token] + tile * (TILE_ROWS * 4)
    return choose(Int(row.builder, token) < o.skip, o.buffer, row)


def _emit(builder: Any, args: tuple[Int, ...], n_tokens: int, is_streaming: bool) -> None:
    o = _Operands(builder, args, n_tokens, is_streaming)
    for half in range(2):
        _emit_product(builder, o, o.q + half * BLOCK, o.tiles + half * QUANT_BYTES, half, half)
    last = o.n_tiles - 1

    def body(tile: Int, _: list[Any]) -> list[Any]:
        weights = o.tiles + tile * o.tile_stride
        # After the last tile the pair started ahead is one that is not read.
        following = choose(tile.equals(last), weights, weights + o.tile_stride)
        for token in range(n_tokens):
            prefetch(_out_at(o, tile, token), for_writing=True)
        for token, value in enumerate(_emit_blocks(builder, o, weights, following)):
            store_or_add(value, _out_at(o, tile, token), o.accumulate)
        return []

    loop(o.n_tiles, [], body)


def _make_multiply(n_tokens: int, is_streaming: bool) -> Any:
    name = f"llorch_q8_amx_{n_tokens}" + ("_streaming" if is_streaming else "")

    @emitted()
    def multiply_many(builder: Any, w: list[Int], x: list[Int], y: list[Int]) -> None:
        """Some tokens against some tiles, between opening AMX for as many and `close_amx`.

        Args (tuples of int64; addresses and strides in bytes unless said otherwise):
            w: first tile, tile stride, number of blocks (at least 2), number of tiles (> 0), where weights needed
                after these tiles begin (asked for when streaming).
            x: int8 activations, their row stride, float32 scales, their row stride.
            y: float32 out, its row stride, whether the product is added to what is there, number of tokens at the
                beginning that are not wanted.
        """
        if HAS_AMX:
            outlined(name, [*w, *x, *y], lambda inner, *args: _emit(inner, args, n_tokens, is_streaming))

    return multiply_many


multiply_many = _make_multiply(MANY_TOKENS, is_streaming=False)
stream_many = _make_multiply(MANY_TOKENS, is_streaming=True)
stream_few = _make_multiply(FEW_TOKENS, is_streaming=True)
"""`multiply_many` for weights that come from memory; on the way it asks for the next ones."""
