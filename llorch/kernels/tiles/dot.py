"""The micro-kernel: some vectors of weight rows times some tokens, over all blocks of a row.

Per block the integer sums are exact; each output is then accumulated in float32, ``acc = fma(sum, d_w * d_x, acc)``
(and, where there are minimums, ``acc = fma(-minimums, dmin * d_x, acc)``), in block order whatever the shape: so every
path and every batch gives the same bits. Sums of plain integers go on over all blocks, exact too, and are scaled once.

``d_w * d_x`` shares the two ports of the dot products (Zen 4: eight dot products, a product and an fma for a block).
Both are float16, so the product is exact in integers too: mantissas by `vpmaddwd`, which has a port of its own,
converted, exponents added. That is 0.91 to 0.94 times as fast; no product at all would be 1.06 to 1.09.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llorch.kernels.emit.functions import outlined
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import (
    F32,
    I8,
    I16,
    I32,
    Int,
    Strided,
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
from llorch.kernels.tiles.ahead import Ahead, Following, emit_ahead
from llorch.kernels.tiles.integers import BYTES, LANES, PATH, SUMS, add_quads, factor_of
from llorch.kernels.tiles.layout import HALVES_BYTES, QUAD_BYTES, QUADS, UNIT, TileScheme
from llorch.kernels.tiles.pair_sums import pair_sums
from llorch.kernels.tiles.plain_rows import scaled_rows
from llorch.kernels.tiles.planes import add_bias, look_up, split_planes

_STEP_UNITS = 2
"""Units of a block with sub-blocks that one turn of its loop takes."""


class _Operands:
    """The kernel's arguments, and where each vector of rows and each token begins."""

    def __init__(
        self, scheme: TileScheme, is_expanded: bool, n_vectors: int, w: list[Int], x: list[Int], y: list[Int]
    ) -> None:
        quants, quant_stride, scales, scale_stride, self.n_blocks, row, following = w
        q, q_stride, d, d_stride, s, s_stride = x
        out, out_stride, self.accumulate = y
        self.scheme = scheme
        self.planes = (8,) if is_expanded else scheme.stored_planes
        self.is_stored = not is_expanded
        self.unit_bytes = sum(self.planes) * QUAD_BYTES
        self.n_vectors = n_vectors
        places = [divmod(v * LANES, TILE_ROWS) for v in range(n_vectors)]
        self.weights = [quants + row * 4 + quant_stride * tile + skip * 4 for tile, skip in places]
        tiles = [tile for tile, skip in places if not skip]
        self.following = Following(
            scheme,
            self.unit_bytes,
            self.planes != (8,),
            self.n_blocks,
            [following + quant_stride * tile for tile in tiles],
            [following + (scales - quants) + scale_stride * tile for tile in tiles],
        )
        self.scales = [scales + row + scale_stride * tile + skip for tile, skip in places]
        self.halves = [
            scales + row * 2 + scale_stride * tile + (skip * 2 + scheme.d_at) for tile, skip in places
        ]
        self.row_scales = [scales + row * 4 + scale_stride * tile + skip * 4 for tile, skip in places]
        self.q, self.d, self.s = Strided(q, q_stride), Strided(d, d_stride), Strided(s, s_stride)
        self.out = Strided(out, out_stride)


def unit_quads(
    builder: Any, scheme: TileScheme, planes: tuple[int, ...], at: Int, is_stored: bool
) -> Iterator[Any]:
    """The bytes of the 8 quads of the unit at an address, as the dot products take them."""

    def read(i: int) -> Any:
        return load(SUMS, at, i * QUAD_BYTES, align=LANES * 4)

    for quad in split_planes(builder, read, planes):
        if is_stored and planes == scheme.planes:
            quad = look_up(builder, scheme, quad, PATH.bias)
        quad = builder.bitcast(quad, BYTES)
        if is_stored and planes == (8,) and PATH.bias != PATH.tile_bias:
            quad = add_bias(builder, quad)
        yield quad


def _units(builder: Any, o: _Operands, at: list[Int], unit: int) -> Iterator[tuple[Any, ...]]:
    """Bytes by quad and vector of rows of a unit; they are loaded as they are asked for."""
    columns = [unit_quads(builder, o.scheme, o.planes, a + unit * o.unit_bytes, o.is_stored) for a in at]
    return zip(*columns, strict=True)


def _sub_block_sums(builder: Any, o: _Operands, block: Int, n_tokens: int, ahead: Ahead) -> list[Any]:
    """int32 totals of a block with sub-blocks, scales applied, token-major."""
    scheme = o.scheme
    weight_at = [w + block * (scheme.units * o.unit_bytes) for w in o.weights]
    scale_at = [s + block * scheme.scale_bytes for s in o.scales]
    x_at = [o.q[t] + block * scheme.block for t in range(n_tokens)]
    start_at = [o.s[t] + block * (scheme.sub_blocks * 4) for t in range(n_tokens)]
    per_sub_block = scheme.sub_block // 4
    step_sub_blocks = _STEP_UNITS * UNIT // scheme.sub_block

    def body(step: Int, totals: list[Any]) -> list[Any]:
        w_at = [w + step * (_STEP_UNITS * o.unit_bytes) for w in weight_at]
        s_at = [s + step * (step_sub_blocks * TILE_ROWS) for s in scale_at]
        starts: list[Any] | None = None
        turn = block * (scheme.units // _STEP_UNITS) + step
        emit_ahead(builder, o.following, ahead, turn, _STEP_UNITS)
        number = 0
        for unit in range(_STEP_UNITS):
            quads = list(_units(builder, o, w_at, unit))
            for first in range(0, QUADS, per_sub_block):
                scales = [load(vector(I8, LANES), s, number * TILE_ROWS) for s in s_at]
                if scheme.minimums == "nibbles":
                    scales = [builder.and_(s, constant(I8, LANES, 15)) for s in scales]
                factors = [factor_of(builder, s, scheme.signed_scales) for s in scales]
                if scheme.has_starts:
                    at = [s + step * (step_sub_blocks * 4) for s in start_at]
                    starts = [splat(builder, load(I32, a, number * 4, align=4), LANES) for a in at]
                at = [x + step * (_STEP_UNITS * UNIT) + (unit * UNIT + first * 4) for x in x_at]
                some = quads[first : first + per_sub_block]
                totals = add_quads(builder, scheme, totals, some, at, factors, starts=starts)
                number += 1
        return totals

    zeros = [constant(I32, LANES, 0)] * (n_tokens * o.n_vectors)
    return loop(Int(builder, scheme.units // _STEP_UNITS), zeros, body, at_least_once=True)


def _block_sums(builder: Any, o: _Operands, block: Int, n_tokens: int, ahead: Ahead) -> list[Any]:
    """int32 sums of one block of 32 columns, token-major."""
    x_at = [o.q[t] + block * (UNIT * o.scheme.column_bytes) for t in range(n_tokens)]
    return _add_unit(builder, o, block, _starts(builder, o, block, n_tokens), x_at, ahead)


def _starts(builder: Any, o: _Operands, block: Int, n_tokens: int) -> list[Any]:
    """What the int32 sums of a block start at."""
    starts: list[Any] = []
    for t in range(n_tokens):
        start = constant(I32, LANES, 0)
        if o.scheme.taken_off:
            start = splat(builder, load(I32, o.s[t] + block * 4, align=4), LANES)
        starts += [start] * o.n_vectors
    return starts


def _add_unit(
    builder: Any, o: _Operands, block: Int, sums: list[Any], x_at: list[Int], ahead: Ahead
) -> list[Any]:
    """Add the products of a block of 32 columns to int32 sums."""
    at = [w + block * o.unit_bytes for w in o.weights]
    emit_ahead(builder, o.following, ahead, block, 1)
    return add_quads(builder, o.scheme, sums, _units(builder, o, at, 0), x_at, None)


def _plain_rows(builder: Any, o: _Operands, n_tokens: int, ahead: Ahead) -> list[Any]:
    """float32 products of whole rows: exact int32 sums, scaled once."""

    def body(block: Int, sums: list[Any]) -> list[Any]:
        x_at = [o.q[t] + block * (UNIT * o.scheme.column_bytes) for t in range(n_tokens)]
        return _add_unit(builder, o, block, sums, x_at, ahead)

    sums = loop(o.n_blocks, _starts(builder, o, Int(builder, 0), n_tokens), body, at_least_once=True)
    factors = [load(vector(F32, LANES), scales, align=4) for scales in o.row_scales]
    return scaled_rows(builder, sums, factors, [o.d[t] for t in range(n_tokens)])


def _emit_block(
    builder: Any, o: _Operands, block: Int, acc: list[Any], n_tokens: int, ahead: Ahead
) -> list[Any]:
    """Add one block to the float32 accumulators, token-major."""
    scheme = o.scheme
    if scheme.has_sub_blocks:
        sums = _sub_block_sums(builder, o, block, n_tokens, ahead)
        others: list[Any] = []
        if scheme.minimums or (scheme.taken_off and not scheme.has_starts):
            scale_at = [s + block * scheme.scale_bytes for s in o.scales]
            others = pair_sums(builder, scheme, scale_at, [o.s[t] for t in range(n_tokens)], block)
        if others and not scheme.minimums:
            factor = constant(I32, LANES, scheme.taken_off)
            sums = [builder.sub(a, builder.mul(b, factor)) for a, b in zip(sums, others, strict=True)]
    else:
        sums, others = _block_sums(builder, o, block, n_tokens, ahead), []

    def halves(number: int) -> list[Any]:
        at = [h + block * scheme.scale_bytes for h in o.halves]
        return [
            half_to_float(builder, load(vector(I16, LANES), a, number * HALVES_BYTES, align=16)) for a in at
        ]

    d, dmin = halves(0), halves(1) if scheme.minimums else []
    result = []
    for t in range(n_tokens):
        x_scale = splat(builder, load(F32, o.d[t] + block * 4, align=4), LANES)
        for v, w_scale in enumerate(d):
            i = t * o.n_vectors + v
            scale = builder.fmul(w_scale, x_scale)
            value = fma(builder, builder.sitofp(sums[i], scale.type), scale, acc[i])
            if others and scheme.minimums:
                lower = builder.fneg(builder.sitofp(others[i], scale.type))
                value = fma(builder, lower, builder.fmul(dmin[v], x_scale), value)
            elif scheme.minimums:
                value = fma(
                    builder, dmin[v], splat(builder, load(F32, o.s[t] + block * 4, align=4), LANES), value
                )
            result.append(value)
    return result


def _emit_kernel(builder: Any, o: _Operands, n_tokens: int, ahead: Ahead) -> None:
    def body(block: Int, acc: list[Any]) -> list[Any]:
        return _emit_block(builder, o, block, acc, n_tokens, ahead)

    # Outputs of some hundred tokens exceed the second cache. (512, Zen 4, GMAC/s: 1536 x 576 159 to 171, 576 x 576 153
    # to 165, 2048 x 2048 the same. Huge pages, and asking for the following tiles once only, make no difference.)
    for t in range(n_tokens):
        for v in range(o.n_vectors):
            prefetch(o.out[t] + v * LANES * 4, for_writing=True)
    if o.scheme.is_plain:
        acc = _plain_rows(builder, o, n_tokens, ahead)
    else:
        zeros = [constant(F32, LANES, 0.0)] * (o.n_vectors * n_tokens)
        acc = loop(o.n_blocks, zeros, body, at_least_once=True)
    for t in range(n_tokens):
        for v in range(o.n_vectors):
            store_or_add(acc[t * o.n_vectors + v], o.out[t] + v * LANES * 4, o.accumulate)


def make_dot(
    scheme: TileScheme,
    n_vectors: int,
    n_tokens: int,
    *,
    ahead: Ahead = Ahead.NOTHING,
    is_expanded: bool = False,
) -> Any:
    """The micro-kernel of one shape: a function ``dot(builder, w, x, y)`` that emits its call.

    `ahead` is what it asks for of the tiles that follow. With `is_expanded` the quants are whole bytes
    (`pack.make_expand`).

    Args of that function (`Int`; addresses and strides in bytes unless said otherwise):
        w: the first tile's quants, their stride from tile to tile, its scales (for plain weights: its rows' factors),
            their stride, number of blocks (> 0), rows of the first tile to skip, quants of the tiles to ask for.
        x: int8 activations, their row stride, float32 scales, their row stride, sums or weighted sums of blocks or
            sub-blocks as the scheme needs them, their row stride.
        y: float32 out, its row stride, whether the product is added to what is there.
    """
    expanded = "_expanded" if is_expanded else ""
    name = f"llorch_{scheme.name}_dot_{n_vectors}x{n_tokens}_{ahead.value}{expanded}"

    def emit(builder: Any, *args: Int) -> None:
        w, x, y = list(args[:7]), list(args[7:13]), list(args[13:])
        _emit_kernel(builder, _Operands(scheme, is_expanded, n_vectors, w, x, y), n_tokens, ahead)

    def dot(builder: Any, w: list[Int], x: list[Int], y: list[Int]) -> None:
        outlined(name, [*w, *x, *y], emit)

    return dot
