"""Q8_K: what activations become before K types; files do not hold it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.floats import Floats

_BLOCK_SIZE = 256


def quantize_activation_q8_k(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantise activations as llama.cpp does before products with K types.

    The value of largest magnitude, the first of several, becomes -127. Halves are rounded to even.

    Args:
        x: float32 (..., n), finite, n a multiple of 256.

    Returns:
        q: int8 (..., n).
        d: float32 (..., n / 256).

    Source: `quantize_row_q8_K_ref`, bit-exact; where its reciprocal overflows, the scale is 0.
    """
    blocks = x.reshape(*x.shape[:-1], -1, _BLOCK_SIZE)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        inverse = np.where(largest == 0, np.float32(0), np.float32(-127) / largest)
        d = np.where(largest == 0, np.float32(0), np.float32(1) / inverse)
        words = (inverse * blocks + np.float32(12582912)).view(np.int32)
    q = np.minimum((words & 0x7FFFFF) - 0x400000, 127).astype(np.int8)
    return q.reshape(x.shape), d[..., 0]
