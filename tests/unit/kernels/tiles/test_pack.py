"""Re-tiling of Q8_0 rows: where every weight and scale ends up, and that bad scales are seen."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.tiles.layout import tile_bytes
from llorch.kernels.tiles.pack import pack_q8_0, scan_q8_0
from llorch.kernels.weights.formats import FORMATS
from llorch.machine.memory import aligned_bytes
from llorch.quant.tensor import quantize
from llorch.quant.types import BF16, F16, F32, Q8_0, QuantType
from tests.support.kernel_calls import guarded

SENTINEL = 0xA5


def random_rows(n_out: int, n_in: int, seed: int = 0) -> NDArray[np.uint8]:
    """Q8_0 blocks (n_out, n_in / 32, 34) with every int8 value, -128 included."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (n_out, n_in // 32, 34), dtype=np.uint8)
    scales = rng.uniform(-2, 2, (n_out, n_in // 32)).astype(np.float16)
    blocks[..., :2] = scales[..., None].view(np.uint8)
    return blocks


def pack(blocks: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
    """(bad, tiles): the tiles as uint8 (n_tiles, stride); writing past them is an error."""
    n_out, n_blocks = blocks.shape[:2]
    n_tiles, stride = -(-n_out // TILE_ROWS), tile_bytes(n_blocks * 32)
    source = guarded(blocks)
    memory = aligned_bytes(n_tiles * stride + 64)
    memory[:] = SENTINEL
    bad = pack_q8_0(source.ctypes.data, n_blocks * 32, n_out, memory.ctypes.data, stride, 0, n_tiles)
    assert (memory[n_tiles * stride :] == SENTINEL).all()
    return bad, memory[: n_tiles * stride].reshape(n_tiles, stride)


@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 33, 48])
@pytest.mark.parametrize("n_in", [32, 64, 96, 352])
def test_a_tile_holds_four_columns_of_sixteen_rows_per_vector(n_out: int, n_in: int) -> None:
    blocks = random_rows(n_out, n_in)
    bad, tiles = pack(blocks)
    assert bad == 0
    n_blocks = n_in // 32
    for row in range(n_out):
        source = blocks[row]
        tile, lane = tiles[row // TILE_ROWS], row % TILE_ROWS
        quants = tile[: n_blocks * 512].reshape(n_blocks, 8, TILE_ROWS, 4)[:, :, lane].reshape(n_blocks, 32)
        expected = source[:, 2:] ^ (0x80 if paths.chosen().tile_bias else 0)
        np.testing.assert_array_equal(quants, expected)
        scales = tile[n_blocks * 512 : n_blocks * 544].reshape(n_blocks, TILE_ROWS, 2)[:, lane]
        np.testing.assert_array_equal(scales, source[:, :2])


@pytest.mark.parametrize("bad_scale", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF])
@pytest.mark.parametrize(("row", "block"), [(0, 0), (15, 2), (16, 1), (20, 2)])
def test_a_scale_that_is_no_number_is_seen_wherever_it_stands(row: int, block: int, bad_scale: int) -> None:
    blocks = random_rows(21, 96)
    blocks[row, block, :2] = np.array([bad_scale], "<u2").view(np.uint8)
    assert pack(blocks)[0] != 0
    source = guarded(blocks)
    assert scan_q8_0(source.ctypes.data, 21 * 3) != 0


def test_the_largest_finite_scales_pass() -> None:
    blocks = random_rows(16, 64)
    blocks[3, 1, :2] = np.array([0x7BFF], "<u2").view(np.uint8)
    blocks[4, 1, :2] = np.array([0xFBFF], "<u2").view(np.uint8)
    blocks[5, 1, :2] = np.array([0x0001], "<u2").view(np.uint8)
    source = guarded(blocks)
    assert pack(blocks)[0] == 0
    assert scan_q8_0(source.ctypes.data, 32) == 0


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


def test_tile_bytes_are_whole_cache_lines() -> None:
    for n_in in range(32, 2048, 32):
        size = tile_bytes(n_in)
        assert size % 64 == 0
        assert 0 <= size - n_in // 32 * 16 * Q8_0.block_bytes < 64
