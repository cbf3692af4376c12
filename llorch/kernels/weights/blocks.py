"""What weights in blocks of 32 or 256 integers share: tiles, the slow twin, the embedding row, the check of scales.

A type says how a block is read and how it lies in tiles; all that follows from it is made here.
"""

from __future__ import annotations

from typing import Any

from llorch.kernels.activations import q8_0, q8_k
from llorch.kernels.activations.q8_0 import QUANT_STRIDE, QUANTS, SCALE_STRIDE, SCALES
from llorch.kernels.emit.scalars import as_int64, atomic_add
from llorch.kernels.jit import Unit, operation, unit
from llorch.kernels.llama_cpp_lanes import put
from llorch.kernels.ops.embed import make_embed
from llorch.kernels.ops.matmul import ACCUMULATE, N_IN, N_OUT, WEIGHTS, X, output_of
from llorch.kernels.tiles.file_blocks import FileBlock
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.dots_llama_cpp import make_dot_32, make_dot_256
from llorch.kernels.weights.format import WeightFormat
from llorch.kernels.weights.rows import make_decode, make_embed_row, make_has_bad
from llorch.kernels.weights.tiled import make_tiled
from llorch.quant.types import QuantType


def make_format(
    quant: QuantType,
    scheme: TileScheme,
    file_block: FileBlock,
    *,
    n_registers: int = 1,
    minimum_lanes: int = 0,
    twin_offset: int = 0,
) -> WeightFormat:
    """The format of a type.

    Args:
        quant: layout and codec.
        scheme: how its blocks lie in tiles.
        file_block: how they are read in a file.
        n_registers, minimum_lanes: of its twin (`dots_llama_cpp`).
        twin_offset: the part of the scheme's offset that llama.cpp takes off by the sums of activations.
    """
    if scheme.block == 32:
        form, twin_sums = q8_0.Q8_0, q8_0.WEIGHTED_SUMS
        sums = {0: q8_0.WEIGHTED_SUMS if scheme.minimums else q8_0.SUMS, 8: q8_0.SUMS_8, 16: q8_0.SUMS_16}
        places = q8_0.QUANTS if scheme.column_bytes == 1 else q8_0.WORDS, q8_0.SCALES, sums[scheme.offset]
        dot = make_dot_32(has_minimum=bool(scheme.minimums), n_registers=n_registers)
    else:
        form, twin_sums = q8_k.Q8_K, q8_k.SUMS_OF_16 if scheme.sub_block == 16 else q8_k.SUMS_OF_32
        starts = {4: q8_k.STARTS_4, 32: q8_k.STARTS_32}.get(scheme.offset, q8_k.STARTS_BIAS)
        places = q8_k.QUANTS, q8_k.SCALES, starts if scheme.has_starts else twin_sums
        dot = make_dot_256(scale_columns=scheme.sub_block, minimum_lanes=minimum_lanes, offset=twin_offset)
    tiling, product = make_tiled(quant.name, scheme, file_block, places)
    decode = make_decode(scheme, file_block, scheme.offset - twin_offset)
    return WeightFormat(
        quant=quant,
        activation=form,
        embed=make_embed(quant.name, make_embed_row(scheme, file_block)),
        scan=_make_scan(quant, make_has_bad(file_block)),
        fast_product=product,
        llama_cpp_product=_make_product(quant, decode, twin_sums, dot),
        tiling=tiling,
        scale_name="a scale of block",
    )


def _make_scan(quant: QuantType, has_bad: Any) -> Unit:
    @unit(f"check of {quant.name} scales", 2, name=f"scan_{quant.name.lower()}")
    def scan(source, n_blocks):
        """Non-zero if any of `n_blocks` blocks at `source` has a NaN or infinite scale or minimum."""
        return has_bad(source, n_blocks)

    return scan


def _make_product(quant: QuantType, decode: Any, sums: int, dot: Any) -> Unit:
    """The slow twin; `sums` is the place of the activations' sums in the table of their form."""
    name, block_size, block_bytes = quant.name, quant.block_size, quant.block_bytes

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
                q, d = a[QUANTS] + token * a[QUANT_STRIDE], a[SCALES] + token * a[SCALE_STRIDE]
                total = dot(w, (q, d, a[sums] + token * a[sums + 1]), n_blocks)
                put(total, out + token * out_stride + row * 4, o[ACCUMULATE])
            row = atomic_add(counter, 1)

    return product
