"""The slow twin of packing: what the bytes of a tile mean, in plain NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.layout import TileScheme


def integers_of_tile(scheme: TileScheme, tile: NDArray[np.uint8], n_blocks: int) -> NDArray[np.int64]:
    """The integers of a tile less their offsets: (16 rows, columns)."""
    planes = scheme.stored_planes
    n_units = n_blocks * scheme.units
    n_vectors = sum(planes)
    vectors = tile[: n_units * n_vectors * TILE_ROWS * 4].reshape(n_units, n_vectors, TILE_ROWS, 4)
    columns = np.zeros((TILE_ROWS, n_units, 8, 4), np.int64)
    lowest = first = 0
    for bits in planes:
        for quad in range(8):
            vector, place = divmod(quad, 8 // bits)
            part = (vectors[:, first + vector] >> (place * bits)) & ((1 << bits) - 1)
            columns[:, :, quad] |= part.astype(np.int64).transpose(1, 0, 2) << lowest
        lowest += bits
        first += bits
    integers = columns.reshape(TILE_ROWS, -1)
    if planes == (8,):
        return (integers - paths.chosen().tile_bias + 128) % 256 - 128
    if scheme.codebook:
        return np.array(scheme.codebook)[integers]
    return integers - scheme.offset


def weights_of_tile(scheme: TileScheme, tile: NDArray[np.uint8], n_blocks: int) -> NDArray[np.float64]:
    """The weights of a tile: (16 rows, columns)."""
    q = integers_of_tile(scheme, tile, n_blocks).reshape(TILE_ROWS, n_blocks, scheme.block)
    n_quants = n_blocks * scheme.units * sum(scheme.stored_planes) * TILE_ROWS * 4
    scales = tile[n_quants : n_quants + n_blocks * scheme.scale_bytes].reshape(n_blocks, scheme.scale_bytes)
    halves = scales[:, scheme.d_at :].copy().view("<f2").astype(np.float64).reshape(n_blocks, -1, TILE_ROWS)
    d = halves[:, 0].T[:, :, None]
    dmin = halves[:, 1].T[:, :, None] if scheme.minimums else 0.0
    if not scheme.has_sub_blocks:
        return np.asarray(d * q + dmin).reshape(TILE_ROWS, -1)

    def of_columns(part: NDArray[np.uint8], signed: bool) -> NDArray[np.int64]:
        values = part.view(np.int8) if signed else part
        by_row = values.reshape(n_blocks, scheme.sub_blocks, TILE_ROWS).transpose(2, 0, 1)
        return np.repeat(by_row.astype(np.int64), scheme.sub_block, axis=-1)

    size = scheme.sub_blocks * TILE_ROWS
    first = np.ascontiguousarray(scales[:, :size])
    lower: NDArray[np.int64] | int = 0
    if scheme.minimums == "nibbles":
        lower, first = of_columns(first // 16, False), first % 16
    elif scheme.minimums == "bytes":
        lower = of_columns(np.ascontiguousarray(scales[:, size : 2 * size]), False)
    factor = of_columns(first, scheme.signed_scales)
    return np.asarray(d * factor * q - dmin * lower).reshape(TILE_ROWS, -1)
