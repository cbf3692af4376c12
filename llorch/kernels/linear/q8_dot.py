"""The Q8_0 x Q8_0 micro-kernel, emitted as LLVM IR for each CPU path.

A *tile* is 16 weight rows, re-ordered so that one 64-byte vector holds 4 consecutive k of all 16 rows:

    quants  [n_blocks][8 quads][16 rows][4]  uint8 (biased by 128) or int8, see `TILE_BIAS`
    scales  [n_blocks][16 rows]              float16

A kernel multiplies `n_vectors` vectors of `LANES` rows with `n_tokens` activation rows over all blocks. Block
sums are exact int32; each output is then accumulated in float32, ``acc = fma(sum, d_w * d_x, acc)``, in block
order whatever the shape: so every path and every batch gives the same bits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels import paths
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
    outlined,
    prefetch,
    splat,
    store,
    vector,
)  # fmt: skip

TILE_ROWS = 16
BLOCK = 32
QUADS = 8
QUANT_BYTES = TILE_ROWS * BLOCK
SCALE_BYTES = TILE_ROWS * 2

PATH = paths.path()
LANES = 16 if PATH in ("amx", "avx512") else 8
BIAS = 128 if PATH in ("amx", "avx512", "avxvnni") else 0
"""Added to each weight: `vpdpbusd` wants unsigned weights; the sum starts at -BIAS * sum(x) instead of 0."""
TILE_BIAS = 0 if PATH == "amx" else BIAS
"""What tiles hold of it; the tile unit wants signed weights, so that path adds the bias when it loads them here."""

_AVX512_SHAPES = ((2, 6), (2, 4), (4, 2), (4, 1), (1, 6), (1, 4), (1, 2), (1, 1))
SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "amx": _AVX512_SHAPES,
    "avx512": _AVX512_SHAPES,
    "avxvnni": ((2, 4), (2, 2), (2, 1)),
    "avx2": ((1, 4), (1, 2), (1, 1)),
    "generic": ((1, 2), (1, 1)),
}
"""(n_vectors, n_tokens) of the kernels of each path, sized to its registers."""


def tile_bytes(n_in: int) -> int:
    """Bytes of one tile of `n_in` columns, a multiple of 64 so that every vector load is aligned."""
    return -(-(n_in // BLOCK * (QUANT_BYTES + SCALE_BYTES)) // 64) * 64


def _dot_vnni(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    bits = LANES * 32
    return call(builder, f"llvm.x86.avx512.vpdpbusd.{bits}", acc.type, [acc, weights, activation])


def _dot_avx2(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    # |w| <= 128 as unsigned and sign(x, w): no pair sum reaches int16's limit (2 * 128 * 127 = 32512).
    bytes_, words = weights.type, vector(I16, 16)
    magnitude = call(builder, "llvm.abs.v32i8", bytes_, [weights, ir.Constant(ir.IntType(1), 0)])
    signed = call(builder, "llvm.x86.avx2.psign.b", bytes_, [activation, weights])
    pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", words, [magnitude, signed])
    quads = call(builder, "llvm.x86.avx2.pmadd.wd", acc.type, [pairs, constant(I16, 16, 1)])
    return builder.add(acc, quads)


def _dot_generic(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    undefined = ir.Constant(weights.type, ir.Undefined)
    for j in range(4):
        mask = ir.Constant(vector(I32, LANES), [4 * lane + j for lane in range(LANES)])
        w = builder.sext(builder.shuffle_vector(weights, undefined, mask), vector(I16, LANES))
        x = builder.sext(builder.shuffle_vector(activation, undefined, mask), vector(I16, LANES))
        acc = builder.add(acc, builder.sext(builder.mul(w, x), acc.type))
    return acc


DOT = {"avx2": _dot_avx2, "generic": _dot_generic}.get(PATH, _dot_vnni)


def add_bias(builder: Any, weights: Any) -> Any:
    """int8 weights plus 128, as uint8, in a vector of any integers."""
    element = weights.type.element.width
    flip = sum(0x80 << shift for shift in range(0, element, 8)) - (1 << element)
    return builder.xor(weights, constant(weights.type.element, weights.type.count, flip))


AHEAD_BYTES = 4096
"""How far ahead of the products weights are asked for where they come from memory."""


class _Operands:
    """The kernel's arguments as LLVM values, and where each vector and token lies."""

    def __init__(self, builder: Any, args: Any, n_vectors: int) -> None:
        (self.tiles, self.scales, self.tile_stride, self.n_blocks, self.q, self.q_stride, self.d, self.s,
         self.block_stride, self.out, self.out_stride, self.accumulate) = args  # fmt: skip
        self.builder = builder
        self.n_vectors = n_vectors

    def in_tile(self, base: Any, vector_index: int, row_bytes: int) -> Any:
        """Address in `base` of the vector's first row."""
        tile, row = divmod(vector_index * LANES, TILE_ROWS)
        offset = self.builder.mul(self.tile_stride, ir.Constant(I64, tile))
        return self.builder.add(base, self.builder.add(offset, ir.Constant(I64, row * row_bytes)))

    def of_token(self, base: Any, token: int, stride: Any) -> Any:
        """Address in `base` of token number `token`."""
        return self.builder.add(base, self.builder.mul(stride, ir.Constant(I64, token)))


def _emit_ahead(builder: Any, o: _Operands, block: Any) -> None:
    """Ask for the quants that come `AHEAD_BYTES` after this block, of every tile at work."""
    offset = builder.add(builder.mul(block, ir.Constant(I64, QUANT_BYTES)), ir.Constant(I64, AHEAD_BYTES))
    for v in range(0, o.n_vectors, TILE_ROWS // LANES):
        at = builder.add(o.in_tile(o.tiles, v, 4), offset)
        for line in range(0, QUANT_BYTES, 64):
            prefetch(builder, builder.add(at, ir.Constant(I64, line)))


def _emit_block(builder: Any, o: _Operands, block: Any, sums: list[Any], n_tokens: int) -> list[Any]:
    """Add one block of 32 columns to the float32 sums, token-major."""
    quant_offset = builder.mul(block, ir.Constant(I64, QUANT_BYTES))
    scale_offset = builder.mul(block, ir.Constant(I64, SCALE_BYTES))
    x_offset = builder.mul(block, ir.Constant(I64, BLOCK))
    d_offset = builder.mul(block, ir.Constant(I64, 4))
    vectors, tokens = range(o.n_vectors), range(n_tokens)
    weight_at = [builder.add(o.in_tile(o.tiles, v, 4), quant_offset) for v in vectors]
    x_at = [builder.add(o.of_token(o.q, t, o.q_stride), x_offset) for t in tokens]
    zero = constant(I32, LANES, 0)
    integer = []
    for t in tokens:
        start = zero
        if BIAS:
            at = builder.add(o.of_token(o.s, t, o.block_stride), d_offset)
            start = splat(builder, load(builder, I32, at, align=4), LANES)
        integer += [start] * o.n_vectors
    bytes_ = vector(I8, LANES * 4)
    for quad in range(QUADS):
        weights = [load(builder, bytes_, weight_at[v], quad * 64, align=LANES * 4) for v in vectors]
        if BIAS != TILE_BIAS:
            weights = [add_bias(builder, w) for w in weights]
        for t in tokens:
            dword = load(builder, I32, x_at[t], quad * 4, align=4)
            activation = builder.bitcast(splat(builder, dword, LANES), bytes_)
            for v in vectors:
                i = t * o.n_vectors + v
                integer[i] = DOT(builder, integer[i], weights[v], activation)
    halves = [
        load(builder, vector(I16, LANES), builder.add(o.in_tile(o.scales, v, 2), scale_offset), align=16)
        for v in vectors
    ]
    weight_scale = [half_to_float(builder, bits) for bits in halves]
    result = []
    for t in tokens:
        at = builder.add(o.of_token(o.d, t, o.block_stride), d_offset)
        x_scale = splat(builder, load(builder, F32, at, align=4), LANES)
        for v in vectors:
            i = t * o.n_vectors + v
            scale = builder.fmul(weight_scale[v], x_scale)
            result.append(fma(builder, builder.sitofp(integer[i], scale.type), scale, sums[i]))
    return result


def _emit_kernel(builder: Any, args: Any, n_vectors: int, n_tokens: int, is_streaming: bool) -> None:
    o = _Operands(builder, args, n_vectors)
    floats = vector(F32, LANES)
    entry = builder.block
    loop = builder.append_basic_block("blocks")
    done = builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    block = builder.phi(I64)
    block.add_incoming(ir.Constant(I64, 0), entry)
    sums = [builder.phi(floats) for _ in range(n_vectors * n_tokens)]
    for phi in sums:
        phi.add_incoming(constant(F32, LANES, 0.0), entry)
    if is_streaming:
        _emit_ahead(builder, o, block)
    after = _emit_block(builder, o, block, sums, n_tokens)
    following = builder.add(block, ir.Constant(I64, 1))
    block.add_incoming(following, loop)
    for phi, value in zip(sums, after, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, o.n_blocks), loop, done)
    builder.position_at_end(done)
    for t in range(n_tokens):
        for v in range(n_vectors):
            value = after[t * n_vectors + v]
            at = builder.add(o.of_token(o.out, t, o.out_stride), ir.Constant(I64, v * LANES * 4))
            with builder.if_else(builder.icmp_signed("!=", o.accumulate, ir.Constant(I64, 0))) as (
                add,
                plain,
            ):
                with add:
                    store(builder, builder.fadd(value, load(builder, floats, at, align=4)), at, align=4)
                with plain:
                    store(builder, value, at, align=4)


def make_dot(n_vectors: int, n_tokens: int, is_streaming: bool = False) -> Any:
    """The micro-kernel of one shape, as a Numba function of three tuples of int64.

    With `is_streaming` it asks for weights ahead. For 4 or 6 tokens whose weights come from memory that is 7 %
    faster; with weights in cache it is 3 % slower, and one token leaves the processor time to look ahead itself.

    Args of that function (addresses and strides in bytes unless said otherwise):
        w: the first tile's quants (plus 4 per row to skip), its scales (plus 2 per row), tile stride, number of
            blocks (> 0).
        x: int8 activations, their row stride, float32 scales, int32 ``-BIAS * sum(x)``, the row stride of both.
        y: float32 out, its row stride, whether the product is added to what stands there.
    """

    @intrinsic
    def dot(typingctx: Any, w: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            flat = [builder.extract_value(t, i) for t in args for i in range(len(t.type.elements))]
            name = f"llorch_q8_dot_{n_vectors}x{n_tokens}" + ("_streaming" if is_streaming else "")

            def emit(inner: Any, a: Any) -> None:
                _emit_kernel(inner, a, n_vectors, n_tokens, is_streaming)

            outlined(builder, name, flat, emit)
            return context.get_dummy_value()

        return types.void(w, x, y), codegen

    return dot
