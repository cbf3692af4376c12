"""Products with weights in tiles: which micro-kernel takes which rows and tokens, for every format that has tiles.

Threads claim a few tiles at a time from a shared counter, so a thread that is disturbed does less; who computes an
output never changes its bits. With several NUMA nodes each has a counter and a share of the tiles, which its threads
compute before they help the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llorch.kernels import step as st
from llorch.kernels.activations.q8_0 import QUANT_STRIDE, QUANTS
from llorch.kernels.emit.scalars import as_int64, atomic_add, prefetch_line
from llorch.kernels.jit import Unit, inlined, merged, operation
from llorch.kernels.layout import CLAIMED_TILES, TILE_ROWS, share_begin
from llorch.kernels.ops.matmul import (
    ACCUMULATE,
    IS_PACKED,
    N_IN,
    N_OUT,
    ROW_ORDER,
    ROW_SCALES,
    TILE_STRIDE,
    WEIGHTS,
    X,
    output_of,
)
from llorch.kernels.program import NEXT_TILE_STRIDE, NEXT_TILES
from llorch.kernels.tiles.amx import FEW_LEAST_REST, LEAST_BLOCKS, LEAST_REST, make_amx
from llorch.kernels.tiles.amx_registers import FEW_TOKENS, HAS_AMX, MANY_TOKENS, close_amx
from llorch.kernels.tiles.direct import MOST_TOKENS, make_direct
from llorch.kernels.tiles.file_blocks import FileBlock
from llorch.kernels.tiles.integers import LANES, PATH
from llorch.kernels.tiles.layout import QUAD_BYTES, QUADS, TileScheme
from llorch.kernels.tiles.pack import make_expand, make_packing
from llorch.kernels.tiles.sweeps import MOST_AT_ONCE, STREAM_FROM, make_sweep, make_sweeps, tokens_from
from llorch.kernels.weights.format import Tiling

_FIRST_LINES = 64
"""Lines of each of its first tiles that a product of one or two tokens finds in cache: 4 KiB."""

_EXPAND_FROM = PATH.expand_from or 1 << 30

_share_begin = inlined(share_begin)


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
    amx = make_amx(scheme)
    multiply_many, stream_many, stream_few = amx.multiply_many, amx.stream_many, amx.stream_few

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
    """`multiply_tiles` (below) for tiles that hold whole bytes; `expanded` is not used."""
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
    """`multiply_tiles` (below) for tiles of bit planes: for many tokens their bytes are written to `expanded`."""
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


@merged
def _no_direct(rows, row_bytes, n_blocks, n_tiles, plain, x, n_tokens, y):
    """For formats without a kernel for rows as in the file."""


class Tiled(NamedTuple):
    """What makes a format's tiles and multiplies with them.

    Attributes:
        tiling: for `WeightFormat`.
        product: operation of `ops.matmul`.
    """

    tiling: Tiling
    product: Unit


def make_tiled(title: str, scheme: TileScheme, file_block: FileBlock, places: tuple[int, int]) -> Tiled:
    """Make the units of a format.

    Args:
        title: ggml's name of the format.
        scheme: its tiles.
        file_block: its blocks in a file.
        places: in the table of the activation's form: the scales, and the sums that the scheme needs.
    """
    packing = make_packing(scheme, file_block, title)
    pack_tile = packing.pack_tile
    has_planes = scheme.stored_planes != (8,)
    multiply_tiles = _make_multiply_planes(scheme) if has_planes else _make_multiply_bytes(scheme)
    amx = make_amx(scheme)
    open_many, open_few = amx.open_many, amx.open_few
    scales_at, sums_at = places
    tile_rows = 0 if scheme.is_plain else TILE_ROWS  # plain rows are looked up, from the first one stored on
    block, file_bytes = scheme.block, file_block.n_bytes
    least_blocks = 1 if scheme.has_sub_blocks else LEAST_BLOCKS
    # Looking bytes up without an instruction for it costs more than a tile does.
    has_direct = not scheme.has_sub_blocks and scheme.stored_planes == scheme.planes
    most_direct, direct = (MOST_TOKENS, make_direct(scheme, file_block)) if has_direct else (0, _no_direct)

    @operation(f"{title} products", name=f"product_{scheme.name}")
    def product(o, s, n_rows, ith, nth, counter, scratch):
        """One thread's share of a product with weights in tiles (`ops.matmul`).

        weights: rows (n_out, n_in) as in the file, or tiles when packed; plain ones have a row order and scales.
        x: int8 (n_rows, n_in) with scales and sums. out: float32 (n_rows, n_out). scratch: as much as the tiling says.
        """
        weights, tile_stride, n_out, n_tokens = o[WEIGHTS], o[TILE_STRIDE], o[N_OUT], n_rows
        a = as_int64(o[X])
        x = (a[QUANTS], a[QUANT_STRIDE], a[scales_at], a[scales_at + 1], a[sums_at], a[sums_at + 1])
        out, out_stride = output_of(o, s)
        n_blocks = o[N_IN] // block
        row_bytes = n_blocks * file_bytes
        n_tiles = (n_out + TILE_ROWS - 1) // TILE_ROWS
        is_amx = HAS_AMX and n_tokens >= FEW_TOKENS and n_blocks >= least_blocks
        n_claimed = CLAIMED_TILES if n_tokens < STREAM_FROM or is_amx else 2
        if is_amx and n_tokens >= MANY_TOKENS:
            open_many()
        elif is_amx:
            open_few()
        expanded = scratch + CLAIMED_TILES * tile_stride
        n_nodes = max(s[st.N_NODES], 1)
        first_next = 0  # this thread's first tiles of the next product
        if o[NEXT_TILES] and n_nodes == 1:
            first_next = o[NEXT_TILES] + ith * n_claimed * o[NEXT_TILE_STRIDE]
        own = ith * n_nodes // max(s[st.TEAM_THREADS], 1) if n_nodes > 1 else 0
        for turn in range(n_nodes):
            node = (own + turn) % n_nodes
            claims = counter + node * 8
            begin, end = _share_begin(n_tiles, node, n_nodes), _share_begin(n_tiles, node + 1, n_nodes)
            first = begin + ith * n_claimed
            if n_nodes > 1:
                first = begin + atomic_add(claims, n_claimed)
            else:
                begin += nth * n_claimed
            while first < end:
                following = begin + atomic_add(claims, n_claimed)
                n = min(n_claimed, end - first)
                y = (out + first * TILE_ROWS * 4, out_stride, o[ACCUMULATE])
                rows = weights + first * tile_rows * row_bytes
                plain = (o[ROW_ORDER] + first * TILE_ROWS * 4, o[ROW_SCALES] + first * TILE_ROWS * 4)
                if not o[IS_PACKED] and n_tokens <= most_direct and (first + n) * TILE_ROWS <= n_out:
                    direct(rows, row_bytes, n_blocks, n, plain, x, n_tokens, y)
                    first = following
                    continue
                tiles, ahead = scratch, 0
                if o[IS_PACKED]:
                    tiles = weights + first * tile_stride
                    ahead = weights + following * tile_stride if following < end else first_next
                else:
                    for i in range(n):
                        n_left = n_out - (first + i) * TILE_ROWS
                        pack_tile(
                            rows + i * tile_rows * row_bytes,
                            row_bytes,
                            n_left,
                            n_blocks,
                            scratch + i * tile_stride,
                            plain[0] + i * TILE_ROWS * 4,
                        )
                multiply_tiles(
                    tiles, tile_stride, n_blocks, n, plain[1], x, n_tokens, y, is_amx, ahead, expanded
                )
                first = following
        if is_amx:
            close_amx()
        elif n_tokens < STREAM_FROM and first_next:
            for i in range(CLAIMED_TILES):
                for line in range(_FIRST_LINES):
                    prefetch_line(first_next + i * o[NEXT_TILE_STRIDE] + line * 64)

    def scratch_bytes(n_in: int, is_packed: bool) -> int:
        expanded = TILE_ROWS * n_in if has_planes else 0
        if is_packed and not has_planes:
            return 0
        return CLAIMED_TILES * (scheme.tile_bytes(n_in) + expanded)

    return Tiled(Tiling(scheme, packing.pack, scratch_bytes), product)
