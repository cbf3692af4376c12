"""Q8_0: blocks of 32 values, a float16 scale and 32 int8.

Source: `gguf.quants` and ggml's `quantize_row_q8_0`, bit-exact for finite values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.block_fields import halves, split, to_halves
from llorch.quant.codecs.floats import Bytes, Floats

BLOCK_SIZE = 32
SCALE_BYTES = 2


def decode_q8_0(data: Bytes) -> Floats:
    """``q * d``; an infinite scale gives infinities and NaN."""
    d, q = split(data, SCALE_BYTES, BLOCK_SIZE)
    with np.errstate(over="ignore", invalid="ignore"):
        return (q.view(np.int8).astype(np.float32) * halves(d)).ravel()


def encode_q8_0(values: Floats) -> Bytes:
    """Scale by ``1 / d`` with the unrounded `d`, round halves away from zero, store `d` as float16."""
    blocks = values.reshape(-1, BLOCK_SIZE)
    d = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        scaled = blocks * np.where(d == 0, np.float32(0), np.float32(1) / d)
        q = _to_int8(_round_half_away(scaled))
    return np.concatenate([to_halves(d), q.view(np.uint8)], axis=1).ravel()


def quantize_activation_q8_0(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantise activations as llama.cpp does before a Q8_0 matmul.

    Unlike the codec for files it multiplies by ``127 / amax`` and rounds halves to even. A block whose scale
    underflows to zero has only zeros.

    Args:
        x: float32 (..., n), finite, n a multiple of 32.

    Returns:
        q: int8 (..., n).
        d: float32 (..., n / 32), scales after their rounding to float16.

    Source: `quantize_row_q8_0` of ggml's x86 code, bit-exact.
    """
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK_SIZE)
    amax = np.abs(blocks).max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        d = (amax / np.float32(127)).astype(np.float16).astype(np.float32)
        q = _to_int8(np.rint(blocks * (np.float32(127) / amax)))
    return q.reshape(x.shape), d[..., 0]


def activation_sums_q8_1(x: Floats) -> Floats:
    """Q8_1's weighted sums of activations: unrounded scale times the sum of integers, rounded to float16.

    Args:
        x: as in `quantize_activation_q8_0`, whose integers and scales are those of Q8_1.

    Returns:
        float32 (..., n / 32).

    Source: `quantize_row_q8_1` of ggml's x86 code, bit-exact but for the sign of a zero.
    """
    q, _ = quantize_activation_q8_0(x)
    amax = np.abs(x.reshape(*x.shape[:-1], -1, BLOCK_SIZE)).max(axis=-1)
    totals = q.reshape(*amax.shape, BLOCK_SIZE).sum(axis=-1, dtype=np.int32).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        weighted: Floats = (amax / np.float32(127) * totals).astype(np.float16).astype(np.float32)
    return weighted


def _to_int8(rounded: Floats) -> NDArray[np.int8]:
    """int8 of rounded values; infinities and NaN, which come from a denormal or zero scale, become 0."""
    return np.where(np.isfinite(rounded), rounded, np.float32(0)).astype(np.int8)


def _round_half_away(values: Floats) -> Floats:
    """C's `roundf`. Adding 0.5 before `floor` would be off for the float just below a half."""
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    rounded: Floats = np.copysign(whole + (magnitude - whole >= 0.5), values)
    return rounded
