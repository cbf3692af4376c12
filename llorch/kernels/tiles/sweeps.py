"""Sweeps: all rows of some tiles times a few tokens, while the tiles that follow are on their way from memory."""

from __future__ import annotations

import functools
from typing import Any

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import Int, choose, loop
from llorch.kernels.jit import merged
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.ahead import Ahead
from llorch.kernels.tiles.dot import make_dot
from llorch.kernels.tiles.integers import LANES, PATH
from llorch.kernels.tiles.layout import TileScheme

MOST_AT_ONCE = len(PATH.shapes)
"""Tokens that one sweep over the weights can take."""

FEW = 2
"""Tokens up to which the arithmetic leaves the processor time to look ahead."""
_MOST_STREAMED = 2 * TILE_ROWS // LANES
"""Vectors of rows of a sweep that asks for all of the tiles that follow: two tiles at once."""


def asked_ahead(scheme: TileScheme, n_tokens: int) -> Ahead:
    """What a sweep asks for of the tiles that follow.

    Where it reads four tiles at once (AVX-512, one or two tokens), these are four streams to the hardware. It fetches
    them early enough as long as there is little to do with each byte: then asking for all costs 15 % (Q8_0) and 1 %
    (Q4_0, one token), but where tiles are short their beginnings take as long as the rest: asking for these alone gains
    9 % (Q8_0) and 18 % (Q4_1) on SmolLM2, and 1 to 3 % on 1.1B. Else asking for all gains 2 % (Q4_K, Q6_K; one
    token), 17 to 45 % (Q2_K, Q3_K, Q5_K), 4 to 68 % (two tokens). Where it reads one tile (AVX2), it gains 12 % (Q8_0)
    and 37 to 121 % (all others; one token).
    """
    if n_tokens > FEW or PATH.shapes[n_tokens - 1] <= _MOST_STREAMED:
        return Ahead.ALL
    planes = scheme.stored_planes
    is_plenty = planes != (8,) and (n_tokens > 1 or len(planes) > 1 or scheme.has_sub_blocks)
    return Ahead.ALL if is_plenty else Ahead.BEGINNINGS


@merged
def tokens_from(x, token):
    """The activations from number `token` on, as `make_dot` has them."""
    q, q_stride, d, d_stride, s, s_stride = x
    return q + token * q_stride, q_stride, d + token * d_stride, d_stride, s + token * s_stride, s_stride


@functools.cache
def make_sweep(
    scheme: TileScheme, n_tokens: int, *, ahead: Ahead = Ahead.NOTHING, is_expanded: bool = False
) -> Any:
    """A function for kernels that multiplies `n_units` vectors of rows with exactly `n_tokens` tokens."""
    n_wide = max(PATH.shapes[n_tokens - 1], scheme.column_bytes)
    if ahead is Ahead.ALL:
        n_wide = min(n_wide, _MOST_STREAMED)
    wide = make_dot(scheme, n_wide, n_tokens, ahead=ahead, is_expanded=is_expanded)
    narrow = make_dot(scheme, 1, n_tokens, is_expanded=is_expanded)

    @emitted()
    def sweep(builder: Any, w: list[Int], n_units: Int, x: list[Int], y: list[Int]) -> None:
        """`w` as `make_dot` has it, less the rows to skip; the tiles to ask for are those after the last."""
        quants, quant_stride, scales, scale_stride, n_blocks, following = w
        out, out_stride, accumulate = y

        def tile_of(row: Int) -> Int:
            return row >> (TILE_ROWS.bit_length() - 1)

        def at_unit(dot: Any, unit: Int, n: int) -> list[Any]:
            row, end = unit * LANES, (unit + n) * LANES
            tile = tile_of(row)
            tiles = [quants + tile * quant_stride, quant_stride, scales + tile * scale_stride, scale_stride]
            after = choose(unit + n < n_units, quants + tile_of(end) * quant_stride, following)
            at = [out + row * 4, out_stride, accumulate]
            dot(builder, [*tiles, n_blocks, row & (TILE_ROWS - 1), after], x, at)
            return []

        turns = n_units >> (n_wide.bit_length() - 1)
        done = turns * n_wide
        loop(turns, [], lambda i, _: at_unit(wide, i * n_wide, n_wide))
        if n_wide > 1:
            loop(n_units - done, [], lambda i, _: at_unit(narrow, done + i, 1))

    return sweep


def make_sweeps(scheme: TileScheme, n: int = 1) -> Any:
    """A kernel ``sweeps(w, n_units, x, y, n_tokens)`` for `n` to `MOST_AT_ONCE` tokens in one sweep."""
    sweep = make_sweep(scheme, n, ahead=asked_ahead(scheme, n))
    more = make_sweeps(scheme, n + 1) if n < MOST_AT_ONCE else sweep

    @merged
    def sweeps(w, n_units, x, y, n_tokens):
        if n_tokens == n:
            sweep(w, n_units, x, y)
        else:
            more(w, n_units, x, y, n_tokens)

    @merged
    def last(w, n_units, x, y, n_tokens):
        sweep(w, n_units, x, y)

    return sweeps if n < MOST_AT_ONCE else last
