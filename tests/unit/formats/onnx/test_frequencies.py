"""Frequencies of RoPE as base, factor and divisors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.onnx.patterns.frequencies import rope_keys, sharpened


def plain(base: float, n: int = 32) -> NDArray[np.float64]:
    return np.float32(base) ** -(np.arange(n) / n)


@pytest.mark.parametrize("base", [10000.0, 500000.0, 1000000.0, 130000.0, 12345.678])
def test_a_plain_base_is_found_to_the_digit(base: float) -> None:
    keys, divisors = rope_keys(plain(base).astype(np.float32).astype(np.float64))
    assert keys == {"llama.rope.freq_base": pytest.approx(base, rel=4e-6)}
    assert divisors is None


def test_evenly_slower_frequencies_are_a_factor() -> None:
    keys, divisors = rope_keys(plain(10000.0) / 4)
    assert keys == {"llama.rope.freq_base": 10000.0, "llama.rope.scaling.factor": 4.0}
    assert divisors is None


def test_unevenly_slower_frequencies_are_divisors_of_the_base_that_the_fastest_follow() -> None:
    factors = np.where(np.arange(32) < 16, 1.0, 8.0)
    keys, divisors = rope_keys(plain(500000.0) / factors)
    assert keys == {"llama.rope.freq_base": 500000.0}
    assert divisors is not None
    assert np.allclose(divisors, factors, rtol=1e-5)


def test_frequencies_in_half_precision_keep_their_base_and_are_not_changed() -> None:
    rounded = plain(10000.0).astype(np.float16).astype(np.float64)
    keys, divisors = rope_keys(rounded)
    assert keys == {"llama.rope.freq_base": 10000.0}
    assert divisors is not None
    assert np.allclose(plain(10000.0) / divisors, rounded, rtol=1e-6)


def test_a_table_in_half_precision_gives_the_frequencies_of_its_last_positions() -> None:
    angles = np.arange(2048)[:, None] * plain(10000.0)
    table = np.cos(angles).astype(np.float16), np.sin(angles).astype(np.float16)
    rough = plain(10000.0) * (1 + 4e-4 * np.sin(np.arange(32)))
    assert np.abs(sharpened(rough, [table], 1.0) - plain(10000.0)).max() < 1e-6


def test_a_table_of_something_else_is_refused() -> None:
    angles = np.arange(64)[:, None] ** 2 * plain(10000.0)
    with pytest.raises(OnnxError, match="angles that grow evenly"):
        sharpened(plain(10000.0), [(np.cos(angles), np.sin(angles))], 1.0)
