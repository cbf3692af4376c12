"""Q8_0 weights: which micro-kernel takes which rows and tokens.

Threads claim a few tiles at a time from a shared counter, so a thread that is disturbed does less; who computes an
output never changes its bits.
"""

from __future__ import annotations

from typing import Any

from numpy import float32

from llorch.kernels.activations.q8_0 import Q8_0 as Q8_0_ACTIVATION
from llorch.kernels.activations.q8_0 import (
    QUANT_STRIDE,
    QUANTS,
    SCALE_STRIDE,
    SCALES,
    SUMS,
)
from llorch.kernels.emit.scalars import (
    as_float32,
    as_int8,
    as_int64,
    as_uint16,
    atomic_add,
    half_to_float32,
    prefetch_line,
)
from llorch.kernels.jit import kernel, operation
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.ops.embed import make_embed
from llorch.kernels.ops.matmul import ACCUMULATE, IS_PACKED, N_IN, N_OUT, TILE_STRIDE, WEIGHTS, X, output_of
from llorch.kernels.tiles.amx import (
    FEW_LEAST_REST,
    FEW_TOKENS,
    HAS_AMX,
    LEAST_BLOCKS,
    LEAST_REST,
    MANY_TOKENS,
    close_amx,
    multiply_many,
    open_few,
    open_many,
    stream_few,
    stream_many,
)
from llorch.kernels.tiles.direct import MOST_TOKENS, make_direct
from llorch.kernels.tiles.dot import LANES, PATH, make_dot
from llorch.kernels.tiles.layout import BLOCK, FILE_BLOCK_BYTES, QUANT_BYTES, tile_bytes
from llorch.kernels.tiles.pack import pack_q8_0, pack_tile, scan_q8_0
from llorch.kernels.weights.format import Tiling, WeightFormat
from llorch.kernels.weights.q8_0_llama_cpp import product_q8_0_llama_cpp
from llorch.quant import types

CLAIMED_TILES = 4
"""Tiles a thread claims at a time when few tokens share them, or AMX does the work."""

_PREFETCH_FROM = 9
"""Tokens from which the next tiles are fetched between the products of these; with fewer, the first products ask
for their own weights a little ahead, and AMX always does."""


def _make_sweep(n_tokens: int, is_streaming: bool = False) -> Any:
    """A kernel that multiplies `n_units` vectors of rows with exactly `n_tokens` tokens."""
    n_wide = max(v for v, t in PATH.shapes if t == n_tokens)
    dot_wide = make_dot(n_wide, n_tokens, is_streaming)
    dot_narrow = make_dot(1, n_tokens) if (1, n_tokens) in PATH.shapes else dot_wide

    @kernel
    def sweep(tiles, tile_stride, n_blocks, n_units, x, y):
        out, out_stride, accumulate = y
        unit = 0
        while unit < n_units:
            row = unit * LANES
            quants = tiles + row // TILE_ROWS * tile_stride
            scales = quants + n_blocks * QUANT_BYTES + row % TILE_ROWS * 2
            w = (quants + row % TILE_ROWS * 4, scales, tile_stride, n_blocks)
            at = (out + row * 4, out_stride, accumulate)
            if unit + n_wide <= n_units:
                dot_wide(w, x, at)
                unit += n_wide
            else:
                dot_narrow(w, x, at)
                unit += 1

    return sweep


_TOKENS = sorted({t for _, t in PATH.shapes}, reverse=True)
_WIDEST = _TOKENS[0]
_MIDDLE = 4 if 4 in _TOKENS else 2
_sweep_widest, _sweep_middle, _sweep_2, _sweep_1 = (_make_sweep(t) for t in (_WIDEST, _MIDDLE, 2, 1))
_stream_widest, _stream_middle = (_make_sweep(t, is_streaming=True) for t in (_WIDEST, _MIDDLE))
_direct_1, _direct_2 = make_direct(1), make_direct(2)


@kernel
def _suits_amx(n_tokens, n_blocks):
    """Whether most of a product is for AMX; it is to be opened then."""
    return HAS_AMX and n_tokens >= FEW_TOKENS and n_blocks >= LEAST_BLOCKS


@kernel
def _multiply_by_amx(tiles, tile_stride, n_blocks, n_tiles, x, n_tokens, y, ahead):
    """What AMX takes of `_multiply_tiles`; returns the number of tokens done."""
    q, q_stride, d, _, block_stride = x
    out, out_stride, accumulate = y
    w = (tiles, tile_stride, n_blocks, n_tiles, ahead)
    size, least = (MANY_TOKENS, LEAST_REST) if n_tokens >= MANY_TOKENS else (FEW_TOKENS, FEW_LEAST_REST)
    token = 0
    while n_tokens - token >= least:
        # The last product reaches back to tokens already done rather than past the end.
        first = min(token, n_tokens - size)
        rows = (q + first * q_stride, q_stride, d + first * block_stride, block_stride)
        at = (out + first * out_stride, out_stride, accumulate, token - first)
        if size == FEW_TOKENS:
            stream_few(w, rows, at)
        elif token == 0 and ahead:
            stream_many(w, rows, at)
        else:
            multiply_many(w, rows, at)
        token = first + size
    return token


@kernel
def _multiply_tiles(tiles, tile_stride, n_blocks, n_tiles, x, n_tokens, y, ahead):
    """All tokens against some tiles that lie in cache; meanwhile as many bytes at `ahead` are fetched."""
    q, q_stride, d, s, block_stride = x
    out, out_stride, accumulate = y
    n_units = n_tiles * (TILE_ROWS // LANES)
    token = 0
    if _suits_amx(n_tokens, n_blocks):
        token = _multiply_by_amx(tiles, tile_stride, n_blocks, n_tiles, x, n_tokens, y, ahead)
        ahead = 0
    n_lines = (n_tiles * tile_stride // 64 * _WIDEST + n_tokens - 1) // n_tokens if ahead else 0
    while token < n_tokens:
        for i in range(n_lines):
            prefetch_line(ahead + i * 64)
        ahead += n_lines * 64
        left = n_tokens - token
        skip = token * block_stride
        rows = (q + token * q_stride, q_stride, d + skip, s + skip, block_stride)
        at = (out + token * out_stride, out_stride, accumulate)
        is_first = token == 0 and n_tokens < _PREFETCH_FROM
        if is_first and left >= _WIDEST:
            _stream_widest(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _WIDEST
        elif is_first and left >= _MIDDLE:
            _stream_middle(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _MIDDLE
        elif left >= _WIDEST:
            _sweep_widest(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _WIDEST
        elif left >= _MIDDLE:
            _sweep_middle(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _MIDDLE
        elif left >= 2:
            _sweep_2(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += 2
        else:
            _sweep_1(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += 1


@kernel
def _direct_tiles(rows, row_bytes, n_blocks, n_tiles, x, n_tokens, y):
    """One or two tokens against some whole tiles of rows as in the file."""
    out, out_stride, accumulate = y
    for i in range(n_tiles):
        w = (rows + i * TILE_ROWS * row_bytes, row_bytes, n_blocks)
        at = (out + i * TILE_ROWS * 4, out_stride, accumulate)
        if n_tokens == 1:
            _direct_1(w, x, at)
        else:
            _direct_2(w, x, at)


@kernel
def _repack_tiles(rows, row_bytes, n_rows, n_blocks, n_tiles, scratch, tile_stride):
    """Make tiles of `n_rows` rows as in the file, in scratch."""
    for i in range(n_tiles):
        n = min(TILE_ROWS, n_rows - i * TILE_ROWS)
        pack_tile(rows + i * TILE_ROWS * row_bytes, row_bytes, n, n_blocks, scratch + i * tile_stride)


@operation("Q8_0 products")
def product_q8_0(o, s, n_rows, ith, nth, counter, scratch):
    """One thread's share of a product with Q8_0 weights (`ops.matmul`).

    weights: Q8_0 rows (n_out, n_in) as in the file, or tiles when packed. x: int8 (n_rows, n_in) with float32 scales
    and int32 sums (n_rows, n_in / 32). out: float32 (n_rows, n_out). scratch: room for CLAIMED_TILES tiles, unused when
    packed.
    """
    weights, tile_stride, n_out, n_tokens = o[WEIGHTS], o[TILE_STRIDE], o[N_OUT], n_rows
    a = as_int64(o[X])
    x = (a[QUANTS], a[QUANT_STRIDE], a[SCALES], a[SUMS], a[SCALE_STRIDE])
    out, out_stride = output_of(o, s)
    n_blocks = o[N_IN] // BLOCK
    row_bytes = n_blocks * FILE_BLOCK_BYTES
    n_tiles = (n_out + TILE_ROWS - 1) // TILE_ROWS
    is_amx = _suits_amx(n_tokens, n_blocks)
    n_claimed = CLAIMED_TILES if n_tokens <= 2 or is_amx else 2
    if is_amx and n_tokens >= MANY_TOKENS:
        open_many()
    elif is_amx:
        open_few()
    first = atomic_add(counter, n_claimed)
    while first < n_tiles:
        following = atomic_add(counter, n_claimed)
        n = min(n_claimed, n_tiles - first)
        y = (out + first * TILE_ROWS * 4, out_stride, o[ACCUMULATE])
        rows = weights + first * TILE_ROWS * row_bytes
        if o[IS_PACKED]:
            ahead = 0
            if (n_tokens >= _PREFETCH_FROM or is_amx) and following < n_tiles:
                ahead = weights + following * tile_stride
            _multiply_tiles(weights + first * tile_stride, tile_stride, n_blocks, n, x, n_tokens, y, ahead)
        elif n_tokens <= MOST_TOKENS and (first + n) * TILE_ROWS <= n_out:
            _direct_tiles(rows, row_bytes, n_blocks, n, x, n_tokens, y)
        else:
            _repack_tiles(rows, row_bytes, n_out - first * TILE_ROWS, n_blocks, n, scratch, tile_stride)
            _multiply_tiles(scratch, tile_stride, n_blocks, n, x, n_tokens, y, 0)
        first = following
    if is_amx:
        close_amx()


@kernel
def _embed_row(source, n, out):
    """A row of `n` Q8_0 values at `source` as float32 at `out`."""
    x = as_float32(out)
    for block in range(n // BLOCK):
        at = source + block * FILE_BLOCK_BYTES
        d = half_to_float32(as_uint16(at)[0])
        q = as_int8(at + 2)
        for i in range(BLOCK):
            x[block * BLOCK + i] = d * float32(q[i])


Q8_0 = WeightFormat(
    quant=types.Q8_0,
    activation=Q8_0_ACTIVATION,
    embed=make_embed("Q8_0", _embed_row),
    scan=scan_q8_0,
    fast_product=product_q8_0,
    llama_cpp_product=product_q8_0_llama_cpp,
    tiling=Tiling(TILE_ROWS, tile_bytes, pack_q8_0, CLAIMED_TILES),
    scale_name="the scale of block",
)
