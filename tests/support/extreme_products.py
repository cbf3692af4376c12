"""The Q8_0 product with the largest sums a file can ask for, and its exact result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.tensor import Tensor
from llorch.quant.types import Q8_0
from tests.support import kernel_calls

N_OUT, N_IN = 16, 64


def extreme_product(n_tokens: int) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32]]:
    """Weights of -128 and 127, activations of +-127, each over whole rows, with scales of 1.

    -128 comes only from hostile files; 64 products of 128 * 127 in one block break int16 pair sums.

    Returns:
        weight: Q8_0 (16, 64); x: float32 (n_tokens, 64); ``x @ weight.T``: float32 (n_tokens, 16).
    """
    blocks = np.full((N_OUT, N_IN // 32, 34), 0x80, np.uint8)
    blocks[..., :2] = np.array([1.0], np.float16).view(np.uint8)
    blocks[1::2, :, 2:] = 0x7F
    weight = Tensor("w", Q8_0, (N_OUT, N_IN), kernel_calls.guarded(blocks.ravel()))
    x = np.full((n_tokens, N_IN), 127.0, np.float32)
    x[1::2] *= -1
    signs = np.where(np.arange(n_tokens) % 2, -1, 1)[:, None]
    product = N_IN * 127 * np.where(np.arange(N_OUT) % 2, 127, -128) * signs
    return weight, x, product.astype(np.float32)
