"""Q8_0 matrix products: which micro-kernel takes which rows and tokens.

Threads claim groups of tiles from a shared counter, so a thread that is disturbed does less; who computes an
output never changes its bits.
"""

from __future__ import annotations

from typing import Any

from llorch.kernels.intrinsics import atomic_add, prefetch_line
from llorch.kernels.jit import kernel, piece
from llorch.kernels.linear.q8_amx import (
    FEW_LEAST_REST,
    FEW_TOKENS,
    GROUP_TOKENS,
    HAS_TILES,
    LEAST_BLOCKS,
    LEAST_REST,
    close_tiles,
    multiply_group,
    open_few,
    open_tiles,
    stream_few,
    stream_group,
)
from llorch.kernels.linear.q8_direct import MOST_TOKENS, make_direct
from llorch.kernels.linear.q8_dot import (
    BLOCK,
    LANES,
    PATH,
    QUANT_BYTES,
    SHAPES,
    TILE_ROWS,
    make_dot,
)
from llorch.kernels.linear.q8_pack import pack_tile

GROUP_TILES = 4
"""Tiles a thread claims at a time when few tokens share them, or the tile unit does the work."""

_PREFETCH_FROM = 9
"""Tokens from which the next group is fetched between the products of this one; with fewer, the first products ask
for their own weights a little ahead, and the tile unit always does."""


def _make_sweep(n_tokens: int, is_streaming: bool = False) -> Any:
    """A kernel that multiplies `n_units` vectors of rows with exactly `n_tokens` tokens."""
    n_wide = max(v for v, t in SHAPES[PATH] if t == n_tokens)
    dot_wide = make_dot(n_wide, n_tokens, is_streaming)
    dot_narrow = make_dot(1, n_tokens) if (1, n_tokens) in SHAPES[PATH] else dot_wide

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


_TOKENS = sorted({t for _, t in SHAPES[PATH]}, reverse=True)
_MOST = _TOKENS[0]
_SOME = 4 if 4 in _TOKENS else 2
_sweep_most, _sweep_some, _sweep_2, _sweep_1 = (_make_sweep(t) for t in (_MOST, _SOME, 2, 1))
_stream_most, _stream_some = (_make_sweep(t, is_streaming=True) for t in (_MOST, _SOME))
_direct_1, _direct_2 = make_direct(1), make_direct(2)


@kernel
def _suits_tile_unit(n_tokens, n_blocks):
    """Whether most of a product is for the tile unit; it is to be opened then."""
    return HAS_TILES and n_tokens >= FEW_TOKENS and n_blocks >= LEAST_BLOCKS


@kernel
def _multiply_groups(tiles, tile_stride, n_blocks, n_tiles, x, n_tokens, y, ahead):
    """What the tile unit takes of `_multiply_tiles`; returns the number of tokens done."""
    q, q_stride, d, _, block_stride = x
    out, out_stride, accumulate = y
    w = (tiles, tile_stride, n_blocks, n_tiles, ahead)
    size, least = (GROUP_TOKENS, LEAST_REST) if n_tokens >= GROUP_TOKENS else (FEW_TOKENS, FEW_LEAST_REST)
    token = 0
    while n_tokens - token >= least:
        # The last group reaches back to tokens already done rather than past the end.
        first = min(token, n_tokens - size)
        rows = (q + first * q_stride, q_stride, d + first * block_stride, block_stride)
        at = (out + first * out_stride, out_stride, accumulate, token - first)
        if size == FEW_TOKENS:
            stream_few(w, rows, at)
        elif token == 0 and ahead:
            stream_group(w, rows, at)
        else:
            multiply_group(w, rows, at)
        token = first + size
    return token


@kernel
def _multiply_tiles(tiles, tile_stride, n_blocks, n_tiles, x, n_tokens, y, ahead):
    """All tokens against some tiles that lie in cache; meanwhile as many bytes at `ahead` are fetched."""
    q, q_stride, d, s, block_stride = x
    out, out_stride, accumulate = y
    n_units = n_tiles * (TILE_ROWS // LANES)
    token = 0
    if _suits_tile_unit(n_tokens, n_blocks):
        token = _multiply_groups(tiles, tile_stride, n_blocks, n_tiles, x, n_tokens, y, ahead)
        ahead = 0
    n_lines = (n_tiles * tile_stride // 64 * _MOST + n_tokens - 1) // n_tokens if ahead else 0
    while token < n_tokens:
        for i in range(n_lines):
            prefetch_line(ahead + i * 64)
        ahead += n_lines * 64
        left = n_tokens - token
        skip = token * block_stride
        rows = (q + token * q_stride, q_stride, d + skip, s + skip, block_stride)
        at = (out + token * out_stride, out_stride, accumulate)
        is_first = token == 0 and n_tokens < _PREFETCH_FROM
        if is_first and left >= _MOST:
            _stream_most(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _MOST
        elif is_first and left >= _SOME:
            _stream_some(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _SOME
        elif left >= _MOST:
            _sweep_most(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _MOST
        elif left >= _SOME:
            _sweep_some(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += _SOME
        elif left >= 2:
            _sweep_2(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += 2
        else:
            _sweep_1(tiles, tile_stride, n_blocks, n_units, rows, at)
            token += 1


@piece("Q8_0 products", 13)
def matmul_q8_0(
    weights, is_packed, n_in, n_out, q, d, s, n_tokens, out, out_stride, accumulate, counter, scratch
):
    """One thread's share of ``out[t] = W @ x[t]``, or ``+=``.

    Args (int64; addresses unless said otherwise):
        weights: Q8_0 rows as in the file, or tiles when `is_packed`.
        n_in, n_out: columns (a multiple of 32) and rows of W.
        q, d, s: quantised activations: int8 (n_tokens, n_in), float32 and int32 (n_tokens, n_in / 32).
        out: float32 rows, `out_stride` bytes apart, padded to whole tiles.
        accumulate: whether the product is added to what stands in `out`.
        counter: the shared int64 that hands out tile groups; 0 at the start.
        scratch: room for GROUP_TILES tiles of this thread's own (unused when packed).
    """
    n_blocks = n_in // BLOCK
    tile_stride = (n_blocks * TILE_ROWS * (BLOCK + 2) + 63) // 64 * 64
    row_bytes = n_blocks * (BLOCK + 2)
    n_tiles = (n_out + TILE_ROWS - 1) // TILE_ROWS
    by_tile_unit = _suits_tile_unit(n_tokens, n_blocks)
    group = GROUP_TILES if n_tokens <= 2 or by_tile_unit else 2
    x = (q, n_in, d, s, n_blocks * 4)
    if by_tile_unit and n_tokens >= GROUP_TOKENS:
        open_tiles()
    elif by_tile_unit:
        open_few()
    first = atomic_add(counter, group)
    while first < n_tiles:
        following = atomic_add(counter, group)
        n = min(group, n_tiles - first)
        y = (out + first * TILE_ROWS * 4, out_stride, accumulate)
        if is_packed:
            ahead = 0
            if (n_tokens >= _PREFETCH_FROM or by_tile_unit) and following < n_tiles:
                ahead = weights + following * tile_stride
            _multiply_tiles(weights + first * tile_stride, tile_stride, n_blocks, n, x, n_tokens, y, ahead)
        elif n_tokens <= MOST_TOKENS and (first + n) * TILE_ROWS <= n_out:
            for i in range(n):
                w = (weights + (first + i) * TILE_ROWS * row_bytes, row_bytes, n_blocks)
                at = (out + (first + i) * TILE_ROWS * 4, out_stride, accumulate)
                if n_tokens == 1:
                    _direct_1(w, x, at)
                else:
                    _direct_2(w, x, at)
        else:
            for i in range(n):
                row = (first + i) * TILE_ROWS
                n_rows = min(TILE_ROWS, n_out - row)
                pack_tile(weights + row * row_bytes, row_bytes, n_rows, n_blocks, scratch + i * tile_stride)
            _multiply_tiles(scratch, tile_stride, n_blocks, n, x, n_tokens, y, 0)
        first = following
    if by_tile_unit:
        close_tiles()
