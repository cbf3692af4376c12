"""Products with weights in tiles: which micro-kernel takes which rows and tokens, for every format that has tiles.

Threads claim a few tiles at a time from a shared counter, so a thread that is disturbed does less; who computes an
output never changes its bits. With several NUMA nodes each has a counter and a share of the tiles, which its threads
compute before they help the others.
"""

from __future__ import annotations

from llorch.kernels import step as st
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
from llorch.kernels.tiles.amx import LEAST_BLOCKS
from llorch.kernels.tiles.amx_registers import FEW_TOKENS, HAS_AMX, MANY_TOKENS, close_amx, make_open
from llorch.kernels.tiles.direct import MOST_TOKENS, make_direct
from llorch.kernels.tiles.file_blocks import FileBlock
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.tiles.multiply import make_multiply
from llorch.kernels.tiles.pack import make_packing
from llorch.kernels.tiles.sweeps import FEW
from llorch.kernels.weights.format import Tiling

_FIRST_LINES = 64
"""Lines of each of its first tiles that a product of one or two tokens finds in cache: 4 KiB."""

_share_begin = inlined(share_begin)


@merged
def _no_direct(rows, row_bytes, n_blocks, n_tiles, plain, x, n_tokens, y):
    """For formats without a kernel for rows as in the file."""


def make_tiled(
    title: str, scheme: TileScheme, file_block: FileBlock, places: tuple[int, int, int]
) -> tuple[Tiling, Unit]:
    """What makes a format's tiles, and the operation of `ops.matmul` that multiplies with them.

    Args:
        title: ggml's name of the format.
        scheme: its tiles.
        file_block: its blocks in a file.
        places: in the table of the activation's form: the integers, the scales, and the sums that the scheme needs.
    """
    pack_tile, pack = make_packing(scheme, file_block, title)
    has_planes = scheme.stored_planes != (8,)
    multiply_tiles = make_multiply(scheme)
    open_many, open_few = (make_open(n, scheme.sub_block) for n in (MANY_TOKENS, FEW_TOKENS))
    quants_at, scales_at, sums_at = places
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
        x: int8 (n_rows, n_in), or int16 (`TileScheme.column_bytes`), with scales and sums. out: float32 (n_rows,
        n_out). scratch: as much as the tiling says.
        """
        weights, tile_stride, n_out, n_tokens = o[WEIGHTS], o[TILE_STRIDE], o[N_OUT], n_rows
        a = as_int64(o[X])
        x = (a[quants_at], a[quants_at + 1], a[scales_at], a[scales_at + 1], a[sums_at], a[sums_at + 1])
        out, out_stride = output_of(o, s)
        n_blocks = o[N_IN] // block
        row_bytes = n_blocks * file_bytes
        n_tiles = (n_out + TILE_ROWS - 1) // TILE_ROWS
        is_amx = HAS_AMX and n_tokens >= FEW_TOKENS and n_blocks >= least_blocks
        n_claimed = CLAIMED_TILES if n_tokens <= FEW or is_amx else 2
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
                # Fewer tiles at a time towards the end would let threads end together, but one token then has fewer
                # streams: SmolLM2 decodes at 0.93 to 0.96 of this speed. A share of neighbouring tiles for each thread
                # makes a product of 285 MB 2 % faster, and steps of 1.1B 0.99, of SmolLM2 0.97 times as fast.
                following = begin + atomic_add(claims, n_claimed)
                n = min(n_claimed, end - first)
                y = (out + first * TILE_ROWS * 4, out_stride, o[ACCUMULATE])
                rows = weights + first * tile_rows * row_bytes
                plain = (o[ROW_ORDER] + first * TILE_ROWS * 4, o[ROW_SCALES] + first * TILE_ROWS * 4)
                if o[IS_PACKED]:
                    tiles = weights + first * tile_stride
                    ahead = weights + following * tile_stride if following < end else first_next
                    multiply_tiles(
                        tiles, tile_stride, n_blocks, n, plain[1], x, n_tokens, y, is_amx, ahead, expanded
                    )
                elif n_tokens <= most_direct and (first + n) * TILE_ROWS <= n_out:
                    direct(rows, row_bytes, n_blocks, n, plain, x, n_tokens, y)
                else:
                    for i in range(n):
                        pack_tile(
                            rows + i * tile_rows * row_bytes,
                            row_bytes,
                            n_out - (first + i) * TILE_ROWS,
                            n_blocks,
                            scratch + i * tile_stride,
                            plain[0] + i * TILE_ROWS * 4,
                        )
                    multiply_tiles(
                        scratch, tile_stride, n_blocks, n, plain[1], x, n_tokens, y, is_amx, 0, expanded
                    )
                first = following
        if is_amx:
            close_amx()
        elif n_tokens <= FEW and first_next:
            for i in range(CLAIMED_TILES):
                for line in range(_FIRST_LINES):
                    prefetch_line(first_next + i * o[NEXT_TILE_STRIDE] + line * 64)

    def scratch_bytes(n_in: int, is_packed: bool) -> int:
        expanded = TILE_ROWS * n_in if has_planes else 0
        if is_packed and not has_planes:
            return 0
        return CLAIMED_TILES * (scheme.tile_bytes(n_in) + expanded)

    return Tiling(scheme, pack, scratch_bytes), product
