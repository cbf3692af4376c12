"""One row of blocks as they lie in a file: its integers for the slow twin, its float32 values, a look at its scales."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import F32, I8, I16, I32, I64, Int, constant, loop, splat, store, vector
from llorch.kernels.tiles.file_blocks import FileBlock
from llorch.kernels.tiles.gather import EXPONENT
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.tiles.planes import look_up

_FIRST = ir.Constant(I32, 0)


def _integers(
    builder: Any, scheme: TileScheme, file_block: FileBlock, at: Int, out: Int, offset: int
) -> None:
    """Write the int8 of a block, less `offset`, in the order of columns."""
    quads = (quad for unit in file_block.units(builder, [at]) for quad in unit)
    for i, quad in enumerate(quads):
        values = builder.bitcast(look_up(builder, scheme, quad), vector(I8, 4))
        store(builder.sub(values, constant(I8, 4, offset)), out, i * 4)


def _scales(builder: Any, scheme: TileScheme, file_block: FileBlock, at: Int) -> tuple[list[Any], list[Any]]:
    """The integer scales and minimums of a block: int8."""
    given = [builder.extract_element(value, _FIRST) for value in file_block.scales(builder, [at])]
    n = scheme.sub_blocks
    if scheme.minimums != "nibbles":
        return given[:n], given[n:]
    return [builder.and_(v, ir.Constant(I8, 15)) for v in given], [
        builder.lshr(v, ir.Constant(I8, 4)) for v in given
    ]


def _halves(builder: Any, file_block: FileBlock, at: Int) -> list[Any]:
    """The float16 scales of a block as float32."""
    halves = file_block.halves(builder, [at])
    return [builder.extract_element(half_to_float(builder, half), _FIRST) for half in halves]


def make_decode(scheme: TileScheme, file_block: FileBlock, offset: int) -> Any:
    """A function for kernels, ``decode(row, n_blocks, scratch)``: brings a row into scratch, once for all tokens.

    It returns addresses of int8 (columns), less `offset`; of `d` and of `dmin`, float32 (n_blocks,); of int8 scales and
    minimums of sub-blocks (n_blocks, sub_blocks).
    """

    @emitted(types.UniTuple(types.int64, 5))
    def decode(builder: Any, row: Int, n_blocks: Int, scratch: Int) -> Any:
        to_d = scratch + n_blocks * scheme.block
        to_m = to_d + n_blocks * 4
        to_scales = to_m + n_blocks * 4
        to_minimums = to_scales + n_blocks * scheme.sub_blocks

        def body(block: Int, _: list[Any]) -> list[Any]:
            at = row + block * file_block.n_bytes
            _integers(builder, scheme, file_block, at, scratch + block * scheme.block, offset)
            for half, to in zip(_halves(builder, file_block, at), (to_d, to_m), strict=False):
                store(half, to + block * 4)
            for values, to in zip(
                _scales(builder, scheme, file_block, at), (to_scales, to_minimums), strict=True
            ):
                for i, value in enumerate(values):
                    store(value, to + block * scheme.sub_blocks, i)
            return []

        loop(n_blocks, [], body)
        result = ir.Constant(ir.ArrayType(I64, 5), ir.Undefined)
        for i, address in enumerate((scratch, to_d, to_m, to_scales, to_minimums)):
            result = builder.insert_value(result, address.value, i)
        return result

    return decode


def make_embed_row(scheme: TileScheme, file_block: FileBlock) -> Any:
    """A function for kernels, ``embed_row(source, n, out)``: `n` values of a row as float32, as ggml computes them."""
    size = scheme.block

    @emitted(types.void(types.int64, types.int64, types.int64))
    def embed_row(builder: Any, source: Int, n: Int, out: Int) -> None:
        def body(block: Int, _: list[Any]) -> list[Any]:
            at, to = source + block * file_block.n_bytes, out + block * (size * 4)
            d, *others = _halves(builder, file_block, at)
            scales, minimums = _scales(builder, scheme, file_block, at)
            quads = (quad for unit in file_block.units(builder, [at]) for quad in unit)
            for i, quad in enumerate(quads):
                factor, lower = d, builder.fneg(others[0]) if others else None
                if scales:
                    number = i * 4 // scheme.sub_block
                    widen = builder.sext if scheme.signed_scales else builder.zext
                    factor = builder.fmul(d, builder.sitofp(widen(scales[number], I32), F32))
                    if minimums:
                        lower = builder.fmul(
                            others[0], builder.sitofp(builder.zext(minimums[number], I32), F32)
                        )
                values = builder.bitcast(look_up(builder, scheme, quad), vector(I8, 4))
                integers = builder.sext(builder.sub(values, constant(I8, 4, scheme.offset)), vector(I32, 4))
                product = builder.fmul(splat(builder, factor, 4), builder.sitofp(integers, vector(F32, 4)))
                if lower is not None:
                    product = builder.fsub(product, splat(builder, lower, 4))
                store(product, to, i * 16, align=4)
            return []

        n_blocks = Int(builder, builder.udiv(n.value, ir.Constant(I64, size)))
        loop(n_blocks, [], body)

    return embed_row


def make_has_bad(file_block: FileBlock) -> Any:
    """A function for kernels, ``has_bad(source, n_blocks)``: non-zero if a float16 scale is NaN or infinite."""

    @emitted(types.int64(types.int64, types.int64))
    def has_bad(builder: Any, source: Int, n_blocks: Int) -> Any:
        def body(block: Int, found: list[Any]) -> list[Any]:
            for half in file_block.halves(builder, [source + block * file_block.n_bytes]):
                exponent = ir.Constant(I16, EXPONENT)
                bits = builder.and_(builder.extract_element(half, _FIRST), exponent)
                is_bad = builder.icmp_unsigned("==", bits, exponent)
                found = [builder.or_(found[0], builder.zext(is_bad, I64))]
            return found

        return loop(n_blocks, [ir.Constant(I64, 0)], body)[0]

    return has_bad
