"""Re-tiling of rows: where every weight and scale ends up, and that bad scales are seen."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.layout import TileScheme
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.memory import aligned_bytes
from llorch.quant.tensor import Tensor, dequantize, quantize
from llorch.quant.types import BF16, F16, F32, Q8_0, QuantType
from tests.support.kernel_calls import guarded
from tests.support.naive_tiles import weights_of_tile
from tests.support.random_blocks import HALVES, random_blocks

SENTINEL = 0xA5
SCHEMES = {t: f.tiling.scheme for t, f in FORMATS.items() if f.tiling is not None and t.name in HALVES}
TYPES = pytest.mark.parametrize("quant_type", list(SCHEMES), ids=lambda t: t.name)


def pack(weight: Tensor) -> tuple[int, NDArray[np.uint8]]:
    """(bad, tiles): the tiles as uint8 (n_tiles, stride); reading or writing past the end is an error."""
    tiling = FORMATS[weight.type].tiling
    assert tiling is not None
    n_out, n_in = weight.shape
    n_tiles, stride = -(-n_out // TILE_ROWS), tiling.tile_bytes(n_in)
    source = guarded(weight.data)
    memory = aligned_bytes(n_tiles * stride + 64)
    memory[:] = SENTINEL
    bad = tiling.pack(source.ctypes.data, n_in, n_out, memory.ctypes.data, stride, 0, n_tiles, 0)
    assert (memory[n_tiles * stride :] == SENTINEL).all()
    return bad, memory[: n_tiles * stride].reshape(n_tiles, stride)


@TYPES
@pytest.mark.parametrize("n_out", [1, 16, 33])
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_tiles_hold_the_weights_of_the_rows(quant_type: QuantType, n_out: int, n_blocks: int) -> None:
    rng = np.random.default_rng([n_out, n_blocks])
    weight = random_blocks(quant_type, (n_out, n_blocks * quant_type.block_size), rng)
    bad, tiles = pack(weight)
    assert bad == 0
    held = np.concatenate([weights_of_tile(SCHEMES[quant_type], tile, n_blocks) for tile in tiles])
    np.testing.assert_allclose(held[:n_out], dequantize(weight), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 33, 48])
@pytest.mark.parametrize("n_in", [32, 64, 96, 352])
def test_a_tile_holds_four_columns_of_sixteen_rows_per_vector(n_out: int, n_in: int) -> None:
    weight = random_blocks(Q8_0, (n_out, n_in), np.random.default_rng(0))
    _, tiles = pack(weight)
    blocks, n_blocks = weight.data.reshape(n_out, -1, 34), n_in // 32
    for row in range(n_out):
        source = blocks[row]
        tile, lane = tiles[row // TILE_ROWS], row % TILE_ROWS
        quants = tile[: n_blocks * 512].reshape(n_blocks, 8, TILE_ROWS, 4)[:, :, lane].reshape(n_blocks, 32)
        expected = source[:, 2:] ^ (0x80 if paths.chosen().tile_bias else 0)
        np.testing.assert_array_equal(quants, expected)
        scales = tile[n_blocks * 512 : n_blocks * 544].reshape(n_blocks, TILE_ROWS, 2)[:, lane]
        np.testing.assert_array_equal(scales, source[:, :2])


@TYPES
@pytest.mark.parametrize("bad_scale", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF])
@pytest.mark.parametrize(("row", "block"), [(0, 0), (15, 2), (16, 1), (20, 2)])
def test_a_scale_that_is_no_number_is_seen_wherever_it_stands(
    quant_type: QuantType, row: int, block: int, bad_scale: int
) -> None:
    for at in HALVES[quant_type.name]:
        weight = random_blocks(quant_type, (21, 3 * quant_type.block_size), np.random.default_rng(0))
        blocks = weight.data.reshape(21, 3, -1)
        blocks[row, block, at : at + 2] = np.array([bad_scale], "<u2").view(np.uint8)
        assert pack(weight)[0] != 0
        source = guarded(weight.data)
        assert FORMATS[quant_type].scan(source.ctypes.data, 21 * 3) != 0


@TYPES
def test_the_largest_finite_scales_pass(quant_type: QuantType) -> None:
    weight = random_blocks(quant_type, (16, 2 * quant_type.block_size), np.random.default_rng(0))
    blocks = weight.data.reshape(16, 2, -1)
    for at in HALVES[quant_type.name]:
        for row, scale in ((3, 0x7BFF), (4, 0xFBFF), (5, 0x0001)):
            blocks[row, 1, at : at + 2] = np.array([scale], "<u2").view(np.uint8)
    source = guarded(weight.data)
    assert pack(weight)[0] == 0
    assert FORMATS[quant_type].scan(source.ctypes.data, 32) == 0


@pytest.mark.parametrize("quant_type", [F32, F16, BF16], ids=lambda t: t.name)
@pytest.mark.parametrize("n", [1, 7, 64, 65])
def test_float_weights_that_are_no_numbers_are_seen(quant_type: QuantType, n: int) -> None:
    values = np.full(n, 3e38 if quant_type is not F16 else 65504, np.float32)
    values[::2] *= -1
    data = guarded(quantize(values, quant_type))
    assert FORMATS[quant_type].scan(data.ctypes.data, n) == 0
    for bad in (np.inf, -np.inf, np.nan):
        spoilt = values.copy()
        spoilt[n - 1] = bad
        data = guarded(quantize(spoilt, quant_type))
        assert FORMATS[quant_type].scan(data.ctypes.data, n) != 0


@TYPES
def test_tiles_are_whole_cache_lines_and_hardly_larger_than_the_file(quant_type: QuantType) -> None:
    scheme: TileScheme = SCHEMES[quant_type]
    for n_blocks in range(1, 64):
        size = scheme.tile_bytes(n_blocks * quant_type.block_size)
        in_file = n_blocks * TILE_ROWS * quant_type.block_bytes
        assert size % 64 == 0
        # 6-bit scales take whole bytes, of Q3_K at most: 4 bytes of 110.
        assert size - 64 < in_file * 1.05
