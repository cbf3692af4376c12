"""Q4_K weights: 256 nibbles; 32 columns share a scale and a minimum of six bits each."""

from __future__ import annotations

from numpy import int32

from llorch.kernels.emit.scalars import as_uint8
from llorch.kernels.jit import inlined
from llorch.kernels.tiles import file_superblocks
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.blocks import Blocks, make_format
from llorch.quant import types


@inlined
def _integer(block, i):
    return int32(as_uint8(block + 16)[i // 64 * 32 + i % 32]) >> (i % 64 // 32 * 4) & 15


@inlined
def scale_of_6_bits(block, j):
    """Scale of group `j`: six bits of a byte, or four bits and the two that other scales leave."""
    scales = as_uint8(block + 4)
    if j < 4:
        return int32(scales[j]) & 63
    return (int32(scales[j + 4]) & 15) | (int32(scales[j - 4]) >> 6 << 4)


@inlined
def minimum_of_6_bits(block, j):
    """Minimum of group `j`, in the other bits of the same bytes."""
    scales = as_uint8(block + 4)
    if j < 4:
        return int32(scales[j + 4]) & 63
    return (int32(scales[j + 4]) >> 4) | (int32(scales[j]) >> 6 << 4)


Q4_K = make_format(
    Blocks(types.Q4_K, _integer, 0, 2, scale_of_6_bits, minimum_of_6_bits),
    TileScheme("q4_k", (4,), 15, 256, minimums="bytes"),
    file_superblocks.Q4_K,
    minimum_lanes=4,
)
