"""Quantisation of activations: the same integers as llama.cpp's, through instructions of a program."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.kernels import paths
from llorch.kernels.tiles.layout import BYTE_COLUMN_BYTES
from llorch.quant.codecs.q8_0 import activation_sums_q8_1, quantize_activation_q8_0
from tests.support import kernel_calls
from tests.support.kernel_calls import BF16_FORM, F16_FORM, Q8_0_FORM, q8_0_of, rounded_of
from tests.support.naive import bits

Floats = NDArray[np.float32]
BIAS = paths.chosen().bias


def assert_quantized_like_the_codec(x: Floats, n_threads: int = 1) -> None:
    made = kernel_calls.prepare(x, Q8_0_FORM, n_threads=n_threads)
    made_q, made_d, made_s = q8_0_of(made)
    made_s8, made_s16, weighted, *words = made.forms[Q8_0_FORM].arrays[3:]
    q, d = quantize_activation_q8_0(x)
    if BYTE_COLUMN_BYTES == 2:
        even_first = q.reshape(len(x), -1, 2, 2).swapaxes(2, 3).reshape(q.shape)
        np.testing.assert_array_equal(words[0], even_first)
    np.testing.assert_array_equal(made_q, q)
    np.testing.assert_array_equal(bits(made_d), bits(d))
    sums = q.reshape(len(x), -1, 32).sum(-1, dtype=np.int32)
    used = d != 0  # a scale of 0 leaves nothing of the sum
    for made_sums, factor in ((made_s, -BIAS), (made_s8, -8), (made_s16, -16)):
        np.testing.assert_array_equal(made_sums[used], (factor * sums)[used])
    np.testing.assert_array_equal(weighted, activation_sums_q8_1(x))


def test_a_block_worked_out_by_hand() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :5] = [127.0, -127.0, 2.5, 3.5, -0.5]  # scale 1; ties go to the even neighbour
    q, d, s = q8_0_of(kernel_calls.prepare(x, Q8_0_FORM))
    assert q[0, :6].tolist() == [127, -127, 2, 4, 0, 0]
    assert d[0].tolist() == [1.0]
    assert s[0].tolist() == [-BIAS * 6]


@pytest.mark.parametrize("width", [32, 64, 480, 512, 544, 1024, 1056, 2048])
def test_rows_of_every_width_are_quantized_like_the_codec(width: int) -> None:
    rng = np.random.default_rng(width)
    assert_quantized_like_the_codec(rng.standard_normal((5, width)).astype(np.float32) * 3, n_threads=2)


def test_zeros_ties_and_extreme_magnitudes_are_quantized_like_the_codec() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((14, 96)).astype(np.float32)
    x[0] = 0.0
    x[1, 32:64] = -0.0
    x[2] = np.tile(np.arange(-16, 16) + np.float32(0.5), 3) * np.float32(127.0 / 15.5)  # many exact ties
    x[3] *= np.float32(1e-38)  # subnormal values; the scale underflows to 0
    x[4] = np.float32(1e-45)
    x[5] *= np.float32(1e-7)  # the scale is a subnormal float16
    x[6] *= np.float32(1e6)
    x[7] *= np.float32(1e30)  # the scale is infinite
    x[8] = np.finfo(np.float32).max
    x[9] = 8_319_000.0  # the scale is just below float16's limit of 65504
    x[10] = 127 * 65520.0  # and just at the value that rounds to infinity
    x[11] = np.float32(127) * np.float32(2**-25)  # a scale that ties to 0
    x[12] = np.nextafter(np.float32(127) * np.float32(2**-25), np.float32(1))  # a scale that does not
    x[13, ::2] = 3.7e-37  # 127 / amax is just finite
    assert_quantized_like_the_codec(x)


def test_integers_stay_within_127_whatever_the_rounding() -> None:
    rng = np.random.default_rng(3)
    amax = rng.integers(0x00800000, 0x7F000000, 4000, dtype=np.uint32).view(np.float32)
    x = np.repeat(amax[:, None], 32, 1)
    x[:, ::3] *= -1
    q, _, _ = q8_0_of(kernel_calls.prepare(x, Q8_0_FORM))
    usual = (amax > 1e-30) & (amax < 1e6)
    assert (np.abs(q[usual].astype(int)) == 127).all()
    assert q.min() >= -127


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 31])
def test_a_value_that_is_no_number_is_never_hidden(bad: float, place: int) -> None:
    """Its block must make every product NaN or infinite, so that the engine sees it in the logits."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 64)).astype(np.float32)
    x[0, 32 + place] = bad
    _, d, _ = q8_0_of(kernel_calls.prepare(x, Q8_0_FORM))
    assert not np.isfinite(d[0, 1])
    assert np.isfinite(d[0, 0])


@pytest.mark.parametrize("n_in", [1, 7, 16, 172, 512, 513, 700])
def test_rows_are_rounded_to_half_and_bfloat(n_in: int) -> None:
    rng = np.random.default_rng(n_in)
    x = (rng.standard_normal((3, n_in)) * 10.0 ** rng.integers(-9, 5, (3, n_in))).astype(np.float32)
    made = kernel_calls.prepare(x, F16_FORM, BF16_FORM, n_threads=2)
    np.testing.assert_array_equal(bits(rounded_of(made, F16_FORM)), bits(x.astype(np.float16)))
    kind = gguf.GGMLQuantizationType.BF16
    expected = gguf.dequantize(gguf.quantize(x, kind), kind)
    np.testing.assert_array_equal(bits(rounded_of(made, BF16_FORM)), bits(expected))
