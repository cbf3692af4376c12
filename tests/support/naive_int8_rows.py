"""Slow twins of int8 weights with a scale a row: the activations' integers, and the product, in every bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.tensor import Placement, Tensor
from llorch.quant.types import I8

Floats = NDArray[np.float32]


def quantize_rows(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """int8 (n_rows, n) and float32 scales (n_rows, 1), as compressed-tensors makes them of float32 activations."""
    scales = np.abs(x).max(axis=1, keepdims=True) / np.float32(127.5)
    scales[scales == 0] = np.finfo(np.float32).eps
    return np.rint(np.clip(x / scales, -128, 127)).astype(np.int8), scales


def integers_of(weight: Tensor) -> NDArray[np.int8]:
    """The int8 of a tensor in the order of its rows: (n_out, n_in)."""
    return weight.all_rows().view(np.int8).reshape(weight.shape)


def matmul(weight: Tensor, x: Floats) -> Floats:
    """Exact sums, rounded to float32, times the row's scale, times the token's."""
    q, scales = quantize_rows(x)
    sums = q.astype(np.int64) @ integers_of(weight).T.astype(np.int64)
    assert weight.row_scales is not None
    assert np.abs(sums).max() < 2**31
    product: Floats = (sums.astype(np.float32) * weight.row_scales) * scales
    return product


def random_tensor(
    n_out: int, n_in: int, rng: np.random.Generator, placement: Placement | None = None
) -> Tensor:
    """Random int8, all 256 of them, and positive scales."""
    n_stored = placement.n_stored if placement else n_out
    data = rng.integers(0, 256, n_stored * n_in, np.uint8)
    scales = rng.random(n_out, np.float32) / np.float32(64)
    return Tensor("w", I8, (n_out, n_in), data, placement, scales)
