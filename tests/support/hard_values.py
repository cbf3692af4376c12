"""Weights that quantisers find hard, the same on every machine and in every version of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUPER_BLOCK = 256


def spread(n: int = 64 * SUPER_BLOCK) -> NDArray[np.float32]:
    """Numbers of both signs between about 1e-6 and 1, most of them small: only integers and products make them."""
    words = (np.arange(1, n + 1, dtype=np.uint64) * np.uint64(2654435761)) & np.uint64(0xFFFF_FFFF)
    x = words.astype(np.float64) / 2.0**31 - 1
    return (x * x * x).astype(np.float32)


def hard_cases() -> dict[str, NDArray[np.float32]]:
    """By name, float32 (16384,): whole super-blocks."""
    x = spread()
    block = np.arange(len(x)) // 32
    cases = {
        "spread": x,
        "small": x * np.float32(1e-12),
        "tiny": x * np.float32(1e-26),
        "large": x * np.float32(1e3),
        "zeros": np.zeros_like(x),
        "negative zeros": np.where(block % 3 == 0, np.float32(-0.0), x),
        "leading negative zeros": np.where(np.arange(len(x)) % 32 < 31, np.float32(-0.0), x),
        "constant": np.full_like(x, 0.37),
        "negative constant": np.full_like(x, -0.37),
        "positive": np.abs(x) + np.float32(0.5),
        "negative": -np.abs(x) - np.float32(0.5),
        "ties": np.round(x * 16) / 16,
        "halves": np.arange(len(x)) % 37 * 0.5 - 9,
        "signs": np.sign(x),
        "one of a block": np.where(np.arange(len(x)) % 32 == 5, x, np.float32(0)),
        "outliers": np.where(np.arange(len(x)) % 101 == 0, x * 1000, x),
        "denormals": x * np.float32(1e-39),
        "one denormal of a block": np.where(np.arange(len(x)) % 32 == 3, np.float32(1e-40), np.float32(0)),
    }
    return {name: np.asarray(values, np.float32) for name, values in cases.items()}
