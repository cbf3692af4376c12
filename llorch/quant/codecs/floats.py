"""F32, F16, BF16 and I8: a value is its own block.

Source (but for I8): the `gguf` package, `gguf.quants`; bit-exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def decode_f32(data: Bytes) -> Floats:
    """float32, little-endian."""
    return data.view("<f4").astype(np.float32)


def encode_f32(values: Floats) -> Bytes:
    """The values as they are."""
    return values.astype("<f4").view(np.uint8)


def decode_f16(data: Bytes) -> Floats:
    """float16, little-endian."""
    return data.view("<f2").astype(np.float32)


def encode_f16(values: Floats) -> Bytes:
    """Round to nearest, ties to even; what is too large becomes infinite."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype("<f2").view(np.uint8)


def decode_i8(data: Bytes) -> Floats:
    """int8, all 256 of them."""
    return data.view(np.int8).astype(np.float32)


def decode_bf16(data: Bytes) -> Floats:
    """A bfloat16 is the upper half of a float32."""
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def encode_bf16(values: Floats) -> Bytes:
    """Round to nearest, ties to even; a NaN stays a NaN with its quiet bit set."""
    bits = values.view(np.uint32)
    is_nan = (bits & 0x7FFF_FFFF) > 0x7F80_0000
    ties_to_even = 0x7FFF + ((bits >> 16) & 1)
    upper = np.where(is_nan, (bits >> 16) | 0x40, (bits.astype(np.uint64) + ties_to_even) >> 16)
    return upper.astype("<u2").view(np.uint8)
