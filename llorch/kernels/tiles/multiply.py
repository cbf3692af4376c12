"""All tokens of a product against some tiles: which micro-kernel takes how many of them."""

from __future__ import annotations

from typing import Any

from llorch.kernels.emit.scalars import prefetch_line
from llorch.kernels.jit import merged
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.amx import FEW_LEAST_REST, LEAST_REST, make_amx
from llorch.kernels.tiles.amx_registers import FEW_TOKENS, HAS_AMX, MANY_TOKENS
from llorch.kernels.tiles.integers import LANES, PATH
from llorch.kernels.tiles.layout import QUAD_BYTES, QUADS, TileScheme
from llorch.kernels.tiles.pack import make_expand
from llorch.kernels.tiles.sweeps import MOST_AT_ONCE, make_sweep, make_sweeps, tokens_from

_EXPAND_FROM = PATH.expand_from or 1 << 30


def _make_multiply_tokens(scheme: TileScheme) -> Any:
    """A kernel for all tokens against some tiles whose quants are bit planes, or whole bytes as in the file."""
    sweeps = make_sweeps(scheme)

    @merged
    def multiply_tokens(w, n_units, x, token, n_tokens, y, ahead):
        """Tokens from number `token` on, in sweeps of about equal size; `ahead`: tiles to ask for, or 0."""
        out, out_stride, accumulate = y
        quants, quant_stride, scales, scale_stride, n_blocks = w
        following = ahead if ahead else quants
        while token < n_tokens:
            n_sweeps = (n_tokens - token + MOST_AT_ONCE - 1) // MOST_AT_ONCE
            n = (n_tokens - token + n_sweeps - 1) // n_sweeps
            w = (quants, quant_stride, scales, scale_stride, n_blocks, following)
            sweeps(w, n_units, tokens_from(x, token), (out + token * out_stride, out_stride, accumulate), n)
            token += n

    return multiply_tokens


def _make_multiply_by_amx(scheme: TileScheme) -> Any:
    multiply_many, stream_many, stream_few = make_amx(scheme)

    @merged
    def multiply_by_amx(w, x, n_tokens, y, ahead):
        """What AMX takes of the tokens; returns the number of tokens done."""
        quants, quant_stride, scales, scale_stride, n_blocks, n_tiles = w
        out, out_stride, accumulate = y
        tiles = (quants, quant_stride, scales, scale_stride, n_blocks, n_tiles, ahead)
        size, least = (MANY_TOKENS, LEAST_REST) if n_tokens >= MANY_TOKENS else (FEW_TOKENS, FEW_LEAST_REST)
        token = 0
        while n_tokens - token >= least:
            # The last product reaches back to tokens already done rather than past the end.
            first = min(token, n_tokens - size)
            rows = tokens_from(x, first)
            at = (out + first * out_stride, out_stride, accumulate, token - first)
            if size == FEW_TOKENS:
                stream_few(tiles, rows, at)
            elif token == 0 and ahead:
                stream_many(tiles, rows, at)
            else:
                multiply_many(tiles, rows, at)
            token = first + size
        return token

    return multiply_by_amx


def _make_multiply_bytes(scheme: TileScheme) -> Any:
    """`multiply_tiles` (`make_multiply`) for tiles that hold whole bytes; `expanded` is not used."""
    multiply_tokens, multiply_by_amx = _make_multiply_tokens(scheme), _make_multiply_by_amx(scheme)
    block_bytes, is_plain = scheme.units * QUADS * QUAD_BYTES, scheme.is_plain

    @merged
    def multiply_tiles(
        tiles, tile_stride, n_blocks, n_tiles, factors, x, n_tokens, y, is_amx, ahead, expanded
    ):
        w = (tiles, tile_stride, tiles + n_blocks * block_bytes, tile_stride, n_blocks)
        if is_plain:
            w = (tiles, tile_stride, factors, TILE_ROWS * 4, n_blocks)
        token = 0
        if is_amx:
            token = multiply_by_amx((*w, n_tiles), x, n_tokens, y, ahead)
            ahead = 0
        multiply_tokens(w, n_tiles * (TILE_ROWS // LANES), x, token, n_tokens, y, ahead)

    return multiply_tiles


def _make_multiply_expanded(scheme: TileScheme) -> Any:
    """A kernel for as many tokens as its sweeps can take against tiles whose planes were unpacked."""
    sweep = make_sweep(scheme, MOST_AT_ONCE, is_expanded=True)

    @merged
    def multiply_expanded(w, n_units, x, n_tokens, y, ahead, n_bytes):
        """Returns the number of tokens done; meanwhile the `n_bytes` at `ahead` are fetched, if it is not 0."""
        out, out_stride, accumulate = y
        n_lines = (n_bytes // 64 * MOST_AT_ONCE + n_tokens - 1) // n_tokens if ahead else 0
        token = 0
        while token + MOST_AT_ONCE <= n_tokens:
            for i in range(n_lines):
                prefetch_line(ahead + i * 64)
            ahead += n_lines * 64
            sweep(w, n_units, tokens_from(x, token), (out + token * out_stride, out_stride, accumulate))
            token += MOST_AT_ONCE
        return token

    return multiply_expanded


def _make_multiply_planes(scheme: TileScheme) -> Any:
    """`multiply_tiles` (`make_multiply`) for bit planes: for many tokens their bytes are written to `expanded`."""
    multiply_tokens, multiply_by_amx = _make_multiply_tokens(scheme), _make_multiply_by_amx(scheme)
    multiply_expanded = _make_multiply_expanded(scheme)
    expand = make_expand(scheme, scheme.taken_off if HAS_AMX else 0)
    units, block_bytes = scheme.units, scheme.units * scheme.unit_bytes

    @merged
    def multiply_tiles(
        tiles, tile_stride, n_blocks, n_tiles, factors, x, n_tokens, y, is_amx, ahead, expanded
    ):
        scales = tiles + n_blocks * block_bytes
        n_units = n_tiles * (TILE_ROWS // LANES)
        token = 0
        if is_amx or n_tokens >= _EXPAND_FROM:
            stride = n_blocks * units * (QUADS * QUAD_BYTES)
            for tile in range(n_tiles):
                expand(tiles + tile * tile_stride, n_blocks * units, expanded + tile * stride)
            if is_amx:
                w = (expanded, stride, scales, tile_stride, n_blocks)
                token = multiply_by_amx((*w, n_tiles), x, n_tokens, y, 0)
            else:
                w_bytes = (expanded, stride, scales, tile_stride, n_blocks, expanded)
                token = multiply_expanded(w_bytes, n_units, x, n_tokens, y, ahead, n_tiles * tile_stride)
        w = (tiles, tile_stride, scales, tile_stride, n_blocks)
        multiply_tokens(w, n_units, x, token, n_tokens, y, ahead)

    return multiply_tiles


def make_multiply(scheme: TileScheme) -> Any:
    """A kernel for all tokens against some tiles, as `weights.tiled` calls it.

    Its arguments: tiles, their stride, blocks of a row, tiles; factors of plain rows; x as `make_dot` has it, tokens; y
    as `make_dot` has it; whether AMX is open; address of the tiles to ask for, or 0; scratch for expanded tiles.
    """
    has_planes = scheme.stored_planes != (8,)
    return _make_multiply_planes(scheme) if has_planes else _make_multiply_bytes(scheme)
