"""The micro-kernels that multiply tiles of Q8_0 weights with Q8_0 activations, one for each shape and CPU path.

A kernel multiplies `n_vectors` vectors of rows with `n_tokens` activation rows over all blocks. Block sums are exact
int32; each output is then accumulated in float32, ``acc = fma(sum, d_w * d_x, acc)``, in block order whatever the
shape: so every path and every batch gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import (
    F32,
    I1,
    I8,
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
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.layout import BLOCK, QUADS, QUANT_BYTES, SCALE_BYTES
from llorch.kernels.tiles.pack import add_bias

PATH = paths.chosen()
LANES = PATH.lanes

AHEAD_BYTES = 4096
"""Prefetch distance, for weights that come from memory."""


def _dot_vnni(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    bits = LANES * 32
    return call(builder, f"llvm.x86.avx512.vpdpbusd.{bits}", acc.type, [acc, weights, activation])


def _dot_avx2(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    # |w| <= 128 as unsigned and sign(x, w): no pair sum reaches int16's limit (2 * 128 * 127 = 32512).
    bytes_, words = weights.type, vector(I16, 16)
    magnitude = call(builder, "llvm.abs.v32i8", bytes_, [weights, ir.Constant(I1, 0)])
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


_DOTS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "vnni": _dot_vnni,
    "avx2": _dot_avx2,
    "generic": _dot_generic,
}
dot_product = _DOTS[PATH.dot]
"""(builder, int32 sums, weights, activation) to the sums with four products per lane added."""


class _Operands:
    """The kernel's arguments, and where each vector of rows and each token begins."""

    def __init__(self, n_vectors: int, w: list[Int], x: list[Int], y: list[Int]) -> None:
        tiles, scales, tile_stride, self.n_blocks = w
        q, q_stride, d, s, block_stride = x
        out, out_stride, self.accumulate = y
        self.n_vectors = n_vectors
        places = [divmod(v * LANES, TILE_ROWS) for v in range(n_vectors)]
        self.weights = [tiles + (tile_stride * tile + row * 4) for tile, row in places]
        self.weight_scales = [scales + (tile_stride * tile + row * 2) for tile, row in places]
        self.q, self.d, self.s = Strided(q, q_stride), Strided(d, block_stride), Strided(s, block_stride)
        self.out = Strided(out, out_stride)


def _emit_ahead(o: _Operands, block: Int) -> None:
    """Ask for the quants that come `AHEAD_BYTES` after this block, of every tile at work."""
    offset = block * QUANT_BYTES + AHEAD_BYTES
    for v in range(0, o.n_vectors, TILE_ROWS // LANES):
        at = o.weights[v] + offset
        for line in range(0, QUANT_BYTES, 64):
            prefetch(at + line)


def _block_sums(builder: Any, o: _Operands, block: Int, n_tokens: int) -> list[Any]:
    """int32 sums of one block of 32 columns, token-major."""
    vectors, tokens = range(o.n_vectors), range(n_tokens)
    weight_at = [o.weights[v] + block * QUANT_BYTES for v in vectors]
    x_at = [o.q[t] + block * BLOCK for t in tokens]
    sums = []
    for t in tokens:
        start = constant(I32, LANES, 0)
        if PATH.bias:
            start = splat(builder, load(I32, o.s[t] + block * 4, align=4), LANES)
        sums += [start] * o.n_vectors
    bytes_ = vector(I8, LANES * 4)
    for quad in range(QUADS):
        weights = [load(bytes_, weight_at[v], quad * 64, align=LANES * 4) for v in vectors]
        if PATH.bias != PATH.tile_bias:
            weights = [add_bias(builder, w) for w in weights]
        for t in tokens:
            dword = load(I32, x_at[t], quad * 4, align=4)
            activation = builder.bitcast(splat(builder, dword, LANES), bytes_)
            for v in vectors:
                i = t * o.n_vectors + v
                sums[i] = dot_product(builder, sums[i], weights[v], activation)
    return sums


def _emit_block(builder: Any, o: _Operands, block: Int, acc: list[Any], n_tokens: int) -> list[Any]:
    """Add one block of 32 columns to the float32 accumulators, token-major."""
    sums = _block_sums(builder, o, block, n_tokens)
    halves = [load(vector(I16, LANES), at + block * SCALE_BYTES, align=16) for at in o.weight_scales]
    weight_scales = [half_to_float(builder, bits) for bits in halves]
    result = []
    for t in range(n_tokens):
        x_scale = splat(builder, load(F32, o.d[t] + block * 4, align=4), LANES)
        for v, weight_scale in enumerate(weight_scales):
            i = t * o.n_vectors + v
            scale = builder.fmul(weight_scale, x_scale)
            result.append(fma(builder, builder.sitofp(sums[i], scale.type), scale, acc[i]))
    return result


def _emit_kernel(builder: Any, o: _Operands, n_tokens: int, is_streaming: bool) -> None:
    def body(block: Int, acc: list[Any]) -> list[Any]:
        if is_streaming:
            _emit_ahead(o, block)
        return _emit_block(builder, o, block, acc, n_tokens)

    zeros = [constant(F32, LANES, 0.0)] * (o.n_vectors * n_tokens)
    acc = loop(o.n_blocks, zeros, body, at_least_once=True)
    for t in range(n_tokens):
        for v in range(o.n_vectors):
            store_or_add(acc[t * o.n_vectors + v], o.out[t] + v * LANES * 4, o.accumulate)


def make_dot(n_vectors: int, n_tokens: int, is_streaming: bool = False) -> Any:
    """The micro-kernel of one shape, as a function for kernels of three tuples of int64.

    With `is_streaming` it asks for weights ahead. For 4 or 6 tokens whose weights come from memory that is 7 %
    faster; with weights in cache it is 3 % slower, and one token leaves the processor time to look ahead itself.

    Args of that function (addresses and strides in bytes unless said otherwise):
        w: the first tile's quants (plus 4 per row to skip), its scales (plus 2 per row), tile stride, number of
            blocks (> 0).
        x: int8 activations, their row stride, float32 scales, int32 ``-bias * sum(x)``, the row stride of both.
        y: float32 out, its row stride, whether the product is added to what is there.
    """
    name = f"llorch_q8_dot_{n_vectors}x{n_tokens}" + ("_streaming" if is_streaming else "")

    def emit(builder: Any, *args: Int) -> None:
        w, x, y = list(args[:4]), list(args[4:9]), list(args[9:])
        _emit_kernel(builder, _Operands(n_vectors, w, x, y), n_tokens, is_streaming)

    @emitted()
    def dot(builder: Any, w: list[Int], x: list[Int], y: list[Int]) -> None:
        outlined(name, [*w, *x, *y], emit)

    return dot
