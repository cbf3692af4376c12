"""What weights in blocks of 32 or 256 integers share: the slow twin, the embedding row, the check of scales.

A type says how a block is read; all that follows from it is made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy import float32, int32

from llorch.kernels.activations import q8_0, q8_k
from llorch.kernels.buffers import ActivationForm
from llorch.kernels.emit.scalars import (
    as_float32,
    as_int8,
    as_int64,
    as_uint16,
    atomic_add,
    half_to_float32,
)
from llorch.kernels.jit import Unit, inlined, kernel, operation, unit
from llorch.kernels.llama_cpp_lanes import put
from llorch.kernels.ops.embed import make_embed
from llorch.kernels.ops.matmul import ACCUMULATE, N_IN, N_OUT, WEIGHTS, X, output_of
from llorch.kernels.weights.dots_llama_cpp import make_dot_32, make_dot_256
from llorch.kernels.weights.format import WeightFormat
from llorch.quant.types import QuantType

_EXPONENT = 0x7C00
"""Of a float16; all bits set means NaN or infinity."""


@inlined
def one(block, j):
    """The scale of a block that has a float16 one only."""
    return int32(1)


@inlined
def minus_one(block, j):
    """The minimum of a block that adds a float16 one."""
    return int32(-1)


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the blocks of a type are read: ``(d * scale) * (integer - offset) - m * minimum``.

    Attributes:
        quant: layout and codec.
        integer: (address of a block, column) to int32, within int8.
        d_at: where a block has its float16 `d`.
        m_at: where it has its float16 `m`, if it has one.
        scale, minimum: (address of a block, number of the group of columns) to int32, within int8.
        scale_columns: columns of such a group.
        offset: subtracted from integers.
    """

    quant: QuantType
    integer: Any
    d_at: int = 0
    m_at: int | None = None
    scale: Any = one
    minimum: Any = minus_one
    scale_columns: int = 32
    offset: int = 0


def make_format(blocks: Blocks, *, n_registers: int = 1, minimum_lanes: int = 0) -> WeightFormat:
    """The format of a type; `n_registers` and `minimum_lanes` are those of `dots_llama_cpp`."""
    form, product = make_llama_cpp_product(blocks, n_registers=n_registers, minimum_lanes=minimum_lanes)
    return WeightFormat(
        quant=blocks.quant,
        activation=form,
        embed=_make_embed(blocks),
        scan=_make_scan(blocks),
        fast_product=product,
        llama_cpp_product=product,
        scale_name="a scale of block",
    )


def make_llama_cpp_product(
    blocks: Blocks, *, n_registers: int = 1, minimum_lanes: int = 0
) -> tuple[ActivationForm, Unit]:
    """The slow twin of a type's product, and the activations that it takes."""
    if blocks.quant.block_size == 32:
        dot = make_dot_32(has_minimum=blocks.m_at is not None, n_registers=n_registers)
        return q8_0.Q8_0, _make_product(blocks, (q8_0.QUANTS, q8_0.SCALES, q8_0.WEIGHTED_SUMS), dot)
    sums = q8_k.SUMS_OF_16 if blocks.scale_columns == 16 else q8_k.SUMS_OF_32
    dot = make_dot_256(scale_columns=blocks.scale_columns, minimum_lanes=minimum_lanes, offset=blocks.offset)
    return q8_k.Q8_K, _make_product(blocks, (q8_k.QUANTS, q8_k.SCALES, sums), dot)


def _make_decode(blocks: Blocks) -> Any:
    """A kernel that brings a row into scratch, once for all tokens."""
    quant, d_at, m_at = blocks.quant, blocks.d_at, blocks.m_at or 0
    has_m = blocks.m_at is not None
    block_size, block_bytes, columns = quant.block_size, quant.block_bytes, blocks.scale_columns
    n_scales = block_size // columns
    integer, scale, minimum = blocks.integer, blocks.scale, blocks.minimum

    @kernel
    def decode(row, n_blocks, scratch):
        to_d = scratch + n_blocks * block_size
        to_m = to_d + n_blocks * 4
        to_scales = to_m + n_blocks * 4
        to_minima = to_scales + n_blocks * n_scales
        d, m, q = as_float32(to_d), as_float32(to_m), as_int8(scratch)
        scales, minima = as_int8(to_scales), as_int8(to_minima)
        for block in range(n_blocks):
            at = row + block * block_bytes
            d[block] = half_to_float32(as_uint16(at + d_at)[0])
            m[block] = half_to_float32(as_uint16(at + m_at)[0]) if has_m else float32(0)
            for j in range(n_scales):
                scales[block * n_scales + j] = scale(at, j)
                minima[block * n_scales + j] = minimum(at, j)
                for i in range(columns):
                    column = j * columns + i
                    q[block * block_size + column] = integer(at, column)
        return scratch, to_d, to_m, to_scales, to_minima

    return decode


def _make_product(blocks: Blocks, places: tuple[int, int, int], dot: Any) -> Unit:
    """The operation; `places` are those of the activation's table that `dot` takes, each before its row stride."""
    name, block_size, block_bytes = blocks.quant.name, blocks.quant.block_size, blocks.quant.block_bytes
    decode = _make_decode(blocks)
    quants, scales, sums = places

    @operation(f"{name} products in llama.cpp's order", name=f"product_{name.lower()}_llama_cpp")
    def product(o, s, n_rows, ith, nth, counter, scratch):
        """One thread's share of a product (`ops.matmul`) with rows as in the file; scratch: a decoded row."""
        a = as_int64(o[X])
        out, out_stride = output_of(o, s)
        n_blocks = o[N_IN] // block_size
        row = atomic_add(counter, 1)
        while row < o[N_OUT]:
            w = decode(o[WEIGHTS] + row * n_blocks * block_bytes, n_blocks, scratch)
            for token in range(n_rows):
                q, d = a[quants] + token * a[quants + 1], a[scales] + token * a[scales + 1]
                total = dot(w, (q, d, a[sums] + token * a[sums + 1]), n_blocks)
                put(total, out + token * out_stride + row * 4, o[ACCUMULATE])
            row = atomic_add(counter, 1)

    return product


def _make_embed(blocks: Blocks) -> Unit:
    quant, d_at, m_at, offset = blocks.quant, blocks.d_at, blocks.m_at or 0, blocks.offset
    has_m = blocks.m_at is not None
    block_size, block_bytes, columns = quant.block_size, quant.block_bytes, blocks.scale_columns
    integer, scale, minimum = blocks.integer, blocks.scale, blocks.minimum

    @kernel
    def embed_row(source, n, out):
        x = as_float32(out)
        for start in range(0, n, columns):
            block, j = source + start // block_size * block_bytes, start % block_size // columns
            d = half_to_float32(as_uint16(block + d_at)[0]) * float32(scale(block, j))
            m = (
                half_to_float32(as_uint16(block + m_at)[0]) * float32(minimum(block, j))
                if has_m
                else float32(0)
            )
            for i in range(columns):
                x[start + i] = d * float32(integer(block, j * columns + i) - offset) - m

    return make_embed(quant.name, embed_row)


def _make_scan(blocks: Blocks) -> Unit:
    name, block_bytes = blocks.quant.name, blocks.quant.block_bytes
    d_at, m_at = blocks.d_at, blocks.d_at if blocks.m_at is None else blocks.m_at

    @unit(f"check of {name} scales", 2, name=f"scan_{name.lower()}")
    def scan(source, n_blocks):
        """Non-zero if any of `n_blocks` blocks at `source` has a NaN or infinite scale or minimum."""
        bad = 0
        for block in range(n_blocks):
            at = source + block * block_bytes
            for half in (as_uint16(at + d_at)[0], as_uint16(at + m_at)[0]):
                bad |= int((half & _EXPONENT) == _EXPONENT)
        return bad

    return scan
