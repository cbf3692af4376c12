"""Integer dot products of quads with activations: exact, so every path gives the same sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir

from llorch.kernels import paths
from llorch.kernels.emit.values import I1, I8, I16, I32, Int, call, constant, load, splat, vector
from llorch.kernels.tiles import neon
from llorch.kernels.tiles.layout import TileScheme

PATH = paths.chosen()
LANES = PATH.lanes
BYTES = vector(I8, LANES * 4)
WORDS = vector(I16, LANES * 2)
SUMS = vector(I32, LANES)

MACS_A_LANE = 8 if PATH.dot == "i8mm" else 4
"""Multiply-adds of the path's instruction for each int32 that it gives."""

IS_PAIRED = PATH.dot == "i8mm"
"""Whether the dot products take quads as pairs (`neon`)."""

_LARGEST_ACTIVATION = 127


def _add_quad_vnni(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    return call(builder, f"llvm.x86.avx512.vpdpbusd.{LANES * 32}", SUMS, [acc, weights, activation])


def _add_quad_generic(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    undefined = ir.Constant(BYTES, ir.Undefined)
    for j in range(4):
        mask = ir.Constant(SUMS, [4 * lane + j for lane in range(LANES)])
        w = builder.sext(builder.shuffle_vector(weights, undefined, mask), vector(I16, LANES))
        x = builder.sext(builder.shuffle_vector(activation, undefined, mask), vector(I16, LANES))
        acc = builder.add(acc, builder.sext(builder.mul(w, x), SUMS))
    return acc


_ADD_QUAD: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "vnni": _add_quad_vnni,
    "generic": _add_quad_generic,
    "neon": neon.sdot,
    "i8mm": neon.smmla,
}


def _pairs(builder: Any, weights: Any, activation: Any, signed: bool) -> Any:
    """int16 sums of two products (AVX2)."""
    if signed:  # |w| as unsigned and sign(x, w)
        magnitude = call(builder, "llvm.abs.v32i8", BYTES, [weights, ir.Constant(I1, 0)])
        activation = call(builder, "llvm.x86.avx2.psign.b", BYTES, [activation, weights])
        weights = magnitude
    return call(builder, "llvm.x86.avx2.pmadd.ub.sw", WORDS, [weights, activation])


def add_quad(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    """Add the products of one quad with the path's instruction alone: to int32, with AVX2 to `WORDS` of int16.

    That of i8mm takes `MACS_A_LANE` products to an int32, of two rows with two tokens.
    """
    if PATH.dot == "avx2":
        return builder.add(acc, _pairs(builder, weights, activation, False))
    return _ADD_QUAD[PATH.dot](builder, acc, weights, activation)


def _add_split_quads(
    builder: Any, totals: list[Any], weights: Iterable[Sequence[Any]], x_at: Sequence[Int]
) -> list[Any]:
    """`add_quads` for signed bytes and int16 activations (`layout.BYTE_COLUMN_BYTES`)."""
    eight = constant(I16, LANES * 2, 8)
    for quad, vectors in enumerate(weights):
        words = [builder.bitcast(w, WORDS) for w in vectors]
        even = [builder.ashr(builder.shl(w, eight), eight) for w in words]
        odd = [builder.ashr(w, eight) for w in words]
        for t, at in enumerate(x_at):
            first, second = (
                builder.bitcast(splat(builder, load(I32, at, quad * 8 + offset, align=4), LANES), WORDS)
                for offset in (0, 4)
            )
            for v in range(len(vectors)):
                i = t * len(vectors) + v
                pair = builder.add(add_pairs(builder, even[v], first), add_pairs(builder, odd[v], second))
                totals[i] = kept_in_order(builder, builder.add(totals[i], pair))
    return totals


def kept_in_order(builder: Any, value: Any) -> Any:
    """`value`, computed before whatever follows in the program.

    With 16 registers that matters: LLVM would finish one token after the other, and the weights of a whole block, which
    it holds for the next one, would go to the stack.
    """
    kind = ir.FunctionType(value.type, [value.type])
    return builder.asm(kind, "", "=x,0", [value], True)


def add_pairs(builder: Any, a: Any, b: Any) -> Any:
    """int32 sums of two products of int16."""
    name = {32: "llvm.x86.avx512.pmaddw.d.512", 16: "llvm.x86.avx2.pmadd.wd"}[LANES * 2]
    return call(builder, name, SUMS, [a, b])


def _in_words(builder: Any, low: Any, high: Any, signed: bool) -> Any:
    """Two numbers of 16 bits for each row, given as int32, side by side: `low` in the lower half of a row's int32."""
    low = builder.and_(low, constant(I32, LANES, 0xFFFF)) if signed else low
    return builder.bitcast(builder.or_(low, builder.shl(high, constant(I32, LANES, 16))), WORDS)


def factor_of(builder: Any, scale: Any, signed: bool) -> Any:
    """A vector of int8 (or uint8) scales, one a row, as `add_quads` multiplies with them."""
    wide = builder.sext(scale, SUMS) if signed else builder.zext(scale, SUMS)
    return _in_words(builder, wide, wide, signed) if PATH.dot == "avx2" else wide


def multiply_pair(
    builder: Any, totals: Sequence[Any], a: Any, b: Any, signed: bool, x_at: Sequence[Int]
) -> list[Any]:
    """Add ``a * x[0] + b * x[1]`` to each total: scales of two sub-blocks, one a row, and int16 at the addresses."""
    extend = builder.sext if signed else builder.zext
    a, b = extend(a, SUMS), extend(b, SUMS)
    if PATH.dot not in ("vnni", "avx2"):
        result = []
        for total, at in zip(totals, x_at, strict=True):
            for offset, scale in ((0, a), (2, b)):
                x = builder.sext(load(I16, at, offset, align=2), I32)
                total = builder.add(total, builder.mul(scale, splat(builder, x, LANES)))
            result.append(total)
        return result
    both = _in_words(builder, a, b, signed)
    xs = [builder.bitcast(splat(builder, load(I32, at, align=2), LANES), WORDS) for at in x_at]
    return [builder.add(total, add_pairs(builder, both, x)) for total, x in zip(totals, xs, strict=True)]


def add_quads(
    builder: Any, scheme: TileScheme, totals: Sequence[Any], weights: Iterable[Sequence[Any]], x_at: Sequence[Int],
    factors: Sequence[Any] | None, *, starts: Sequence[Any] | None = None, is_paired: bool = IS_PAIRED,
) -> list[Any]:  # fmt: skip
    """Add the products of some quads, times factors, to int32 totals, token-major.

    Args:
        builder: of the function under construction.
        scheme: of the weights.
        totals: by token and vector of rows.
        weights: bytes by quad and vector of rows.
        x_at: addresses of the tokens' int8 for the first quad.
        factors: by vector of rows (`factor_of`), or None.
        starts: by token, int32 (AVX2: pairs of int16) that sums begin with which factors multiply; None means 0
            (`TileScheme.has_starts`).
        is_paired: whether the weights are pairs of quads, as in the tiles of paths where `IS_PAIRED` is set.
    """
    totals = list(totals)
    if scheme.column_bytes == 2:
        return _add_split_quads(builder, totals, weights, x_at)
    weights = list(weights)
    if PATH.dot in neon.DOTS:
        return neon.add_quads(builder, totals, weights, x_at, factors, is_paired)
    n = len(weights[0])
    is_avx2 = PATH.dot == "avx2"
    per_chain = (
        max(1, 32767 // (2 * _LARGEST_ACTIVATION * scheme.largest))
        if is_avx2 and not starts
        else len(weights)
    )
    ones = constant(I16, LANES * 2, 1)
    for first in range(0, len(weights), per_chain):
        sums: list[Any] = [None] * len(totals) if is_avx2 or factors else totals
        if starts:
            sums = [builder.bitcast(s, WORDS) if is_avx2 else s for s in starts for _ in range(n)]
        for quad in range(first, min(first + per_chain, len(weights))):
            for t, at in enumerate(x_at):
                x = builder.bitcast(splat(builder, load(I32, at, quad * 4, align=4), LANES), BYTES)
                for v, w in enumerate(weights[quad]):
                    i = t * n + v
                    if is_avx2:
                        product = _pairs(builder, w, x, scheme.signed)
                        sums[i] = product if sums[i] is None else builder.add(sums[i], product)
                    else:
                        start = constant(I32, LANES, 0) if sums[i] is None else sums[i]
                        sums[i] = _ADD_QUAD[PATH.dot](builder, start, w, x)
        for i, chain in enumerate(sums):
            if is_avx2:
                product = add_pairs(builder, chain, factors[i % n] if factors else ones)
                totals[i] = kept_in_order(builder, builder.add(totals[i], product))
            elif factors:
                totals[i] = builder.add(totals[i], builder.mul(chain, factors[i % n]))
        if not is_avx2 and not factors:
            totals = sums
    return totals
