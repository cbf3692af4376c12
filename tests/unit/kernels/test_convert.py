"""Float conversions against NumPy and the `gguf` package, over all 16-bit patterns and float32 edge cases."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import kernel_calls
from tests.support.naive import bits


def convert(x: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float32]]:
    half, rounded, bfloat = np.zeros(len(x), np.uint16), np.zeros_like(x), np.zeros_like(x)
    kernel_calls.convert_array(x, half, rounded, bfloat)
    return half, rounded, bfloat


def widen(words: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    half, bfloat = np.zeros(len(words), np.float32), np.zeros(len(words), np.float32)
    kernel_calls.widen_array(words, half, bfloat)
    return half, bfloat


def interesting_floats() -> NDArray[np.float32]:
    """Random bit patterns, and every float16 and bfloat16 boundary with its neighbours and halfway points."""
    rng = np.random.default_rng(1)
    words = np.arange(1 << 16, dtype=np.uint32)
    with np.errstate(invalid="ignore"):
        halves = words.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    edges = np.concatenate([halves, halves + 0x1000, halves + 0x0FFF, halves + 0x1001])
    bfloats = np.concatenate([words << 16, (words << 16) + 0x8000, (words << 16) + 0x7FFF])
    random = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32)
    subnormal = rng.integers(0, 1 << 23, 20_000, dtype=np.uint32)
    return np.concatenate([edges, edges - 1, bfloats, random, subnormal]).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("value", "half"),
    [(1.0, 0x3C00), (-2.0, 0xC000), (65504.0, 0x7BFF), (65519.996, 0x7BFF), (65520.0, 0x7C00), (0.0, 0),
     (-0.0, 0x8000), (2.0**-24, 1), (2.0**-25, 0), (1.5 * 2.0**-25, 1), (1 + 2.0**-11, 0x3C00),
     (1 + 3 * 2.0**-11, 0x3C02), (2.0**-14, 0x0400), (np.inf, 0x7C00), (-np.inf, 0xFC00)],
)  # fmt: skip
def test_halves_worked_out_by_hand(value: float, half: int) -> None:
    assert convert(np.array([value], np.float32))[0][0] == half


def test_float32_becomes_the_half_that_numpy_rounds_to() -> None:
    x = interesting_floats()
    half, rounded, _ = convert(x)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = x.astype(np.float16)
    is_nan = np.isnan(x)
    np.testing.assert_array_equal(half[~is_nan], expected.view(np.uint16)[~is_nan])
    assert np.isnan(half.view(np.float16)[is_nan]).all()
    np.testing.assert_array_equal(bits(rounded)[~is_nan], bits(expected)[~is_nan])
    assert np.isnan(rounded[is_nan]).all()


def test_float32_becomes_the_bfloat_that_the_gguf_package_rounds_to() -> None:
    x = interesting_floats()
    _, _, rounded = convert(x)
    kind = gguf.GGMLQuantizationType.BF16
    expected = np.asarray(gguf.dequantize(gguf.quantize(x, kind), kind), np.float32)
    is_nan = np.isnan(x)
    np.testing.assert_array_equal(bits(rounded)[~is_nan], bits(expected)[~is_nan])
    assert np.isnan(rounded[is_nan]).all()


def test_every_half_and_bfloat_widens_exactly() -> None:
    words = np.arange(1 << 16, dtype=np.uint16)
    half, bfloat = widen(words)
    with np.errstate(invalid="ignore"):
        expected = words.view(np.float16).astype(np.float32)
    is_nan = np.isnan(expected)
    np.testing.assert_array_equal(bits(half)[~is_nan], bits(expected)[~is_nan])
    assert np.isnan(half[is_nan]).all()
    np.testing.assert_array_equal(bits(bfloat), words.astype(np.uint32) << 16)


def test_every_half_survives_the_round_trip() -> None:
    words = np.arange(1 << 16, dtype=np.uint16)
    values, _ = widen(words)
    half, _, _ = convert(values)
    is_nan = np.isnan(values)
    np.testing.assert_array_equal(half[~is_nan], words[~is_nan])
