"""Quantisation of activations to Q8_K: the same integers as llama.cpp's, through instructions of a program."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.activations.q8_k import Q8_K
from llorch.quant.codecs.q8_k import quantize_activation_q8_k
from tests.support import kernel_calls
from tests.support.naive import bits

Floats = NDArray[np.float32]
BIAS = paths.chosen().bias
HAS_PAIRS = paths.chosen().dot == "avx2"


def sums_of_starts(starts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Starts of 16 columns as one number each, which AVX2 keeps as two int16."""
    return starts.view(np.int16).reshape(*starts.shape, 2).sum(-1, dtype=np.int32) if HAS_PAIRS else starts


def assert_quantized_like_the_codec(x: Floats, n_threads: int = 1) -> None:
    made = kernel_calls.prepare(x, Q8_K, n_threads=n_threads)
    made_q, made_d, of_16, of_32, at_4, at_32, at_bias = made.forms[Q8_K].arrays
    q, d = quantize_activation_q8_k(x)
    np.testing.assert_array_equal(made_q, q)
    np.testing.assert_array_equal(bits(made_d), bits(d))
    np.testing.assert_array_equal(of_16, q.reshape(len(x), -1, 16).sum(-1))
    np.testing.assert_array_equal(of_32, q.reshape(len(x), -1, 32).sum(-1))
    used = d != 0  # a scale of 0 leaves nothing of the sum
    of_starts = (sums_of_starts(at_4), 16, -4), (sums_of_starts(at_32), 16, -32), (at_bias, 32, -BIAS)
    for starts, columns, factor in of_starts:
        sums = q.reshape(*d.shape, -1, columns).sum(-1, dtype=np.int32)
        np.testing.assert_array_equal(starts.reshape(sums.shape)[used], factor * sums[used])
    if HAS_PAIRS:
        pairs = -32 * q.reshape(*d.shape, 16, 4, 2, 2).sum((-3, -1), dtype=np.int32)
        np.testing.assert_array_equal(at_32.view(np.int16).reshape(pairs.shape)[used], pairs[used])


def test_a_block_worked_out_by_hand() -> None:
    x = np.zeros((1, 256), np.float32)
    x[0, [0, 17, 33, 34, 255]] = [
        63.5,
        -127.0,
        2.5,
        3.5,
        127.0,
    ]  # -127 comes first; ties go to the even neighbour
    q, d, of_16, of_32, at_4, at_32, at_bias = kernel_calls.prepare(x, Q8_K).forms[Q8_K].arrays
    assert q[0, [0, 17, 33, 34, 255]].tolist() == [64, -127, 2, 4, 127]
    assert d[0].tolist() == [1.0]
    assert of_16[0, [0, 1, 2, 3, 15]].tolist() == [64, -127, 6, 0, 127]
    assert of_32[0, [0, 1, 7]].tolist() == [64 - 127, 6, 127]
    assert sums_of_starts(at_4)[0, [0, 1, 2]].tolist() == [-4 * 64, 4 * 127, -4 * 6]
    assert sums_of_starts(at_32)[0, [0, 1, 2]].tolist() == [-32 * 64, 32 * 127, -32 * 6]
    assert at_bias[0, [0, 1]].tolist() == [BIAS * 63, -BIAS * 6]


@pytest.mark.parametrize("width", [256, 512, 768, 2048])
def test_rows_of_every_width_are_quantized_like_the_codec(width: int) -> None:
    rng = np.random.default_rng(width)
    assert_quantized_like_the_codec(rng.standard_normal((5, width)).astype(np.float32) * 3, n_threads=2)


@pytest.mark.parametrize("first", [-1, 1])
@pytest.mark.parametrize("places", [(0, 255), (15, 16), (31, 32), (200, 201)])
def test_the_first_of_two_values_of_largest_magnitude_sets_the_sign(
    places: tuple[int, int], first: int
) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (1, 256)).astype(np.float32)
    x[0, places] = [first * 2, first * -2]
    assert_quantized_like_the_codec(x)
    assert kernel_calls.prepare(x, Q8_K).forms[Q8_K].arrays[0][0, places].tolist() == [-127, 127]


def test_zeros_ties_and_extreme_magnitudes_are_quantized_like_the_codec() -> None:
    x = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    x[0] = 0.0
    x[1, 256:] = -0.0
    x[2] = np.tile(np.arange(-128, 128) + np.float32(0.5), 2) * np.float32(127.0 / 127.5)
    x[3] *= np.float32(1e-38)  # the reciprocal overflows, the scale is 0
    x[4] = np.float32(1e-45)
    x[5] *= np.float32(1e30)
    x[6] = np.finfo(np.float32).max
    x[7, ::2] = 3.8e-37  # the reciprocal is just finite
    assert_quantized_like_the_codec(x)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 255])
def test_a_value_that_is_no_number_is_never_hidden(bad: float, place: int) -> None:
    x = np.random.default_rng(5).standard_normal((1, 512)).astype(np.float32)
    x[0, 256 + place] = bad
    d = kernel_calls.prepare(x, Q8_K).forms[Q8_K].arrays[1]
    assert not np.isfinite(d[0, 1])
    assert np.isfinite(d[0, 0])
