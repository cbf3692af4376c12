"""Q4_0, Q4_1, Q5_0 and Q5_1: blocks of 32 values, a float16 scale, and a float16 minimum in the ``_1`` types.

The low four bits of the first 16 values are the low halves of 16 bytes, those of the others the high halves. The Q5
types hold every fifth bit in four bytes before them.

Source: `gguf.quants` and ggml's `quantize_row_q4_0_ref` and its three siblings, bit-exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.block_fields import halves, pack, split, to_halves, unpack
from llorch.quant.codecs.floats import Bytes, Floats


def decode_q4_0(data: Bytes) -> Floats:
    """``(q - 8) * d``."""
    d, low = split(data, 2, 16)
    return _scaled(halves(d), _integers(low) - np.float32(8))


def decode_q4_1(data: Bytes) -> Floats:
    """``q * d + m``."""
    d, m, low = split(data, 2, 2, 16)
    return _scaled(halves(d), _integers(low), halves(m))


def decode_q5_0(data: Bytes) -> Floats:
    """``(q - 16) * d``."""
    d, high, low = split(data, 2, 4, 16)
    return _scaled(halves(d), _integers(low, high) - np.float32(16))


def decode_q5_1(data: Bytes) -> Floats:
    """``q * d + m``."""
    d, m, high, low = split(data, 2, 2, 4, 16)
    return _scaled(halves(d), _integers(low, high), halves(m))


def encode_q4_0(values: Floats) -> Bytes:
    """The value of largest magnitude becomes -8; halves go up."""
    d, q = _around_zero(values, 16)
    return np.concatenate([to_halves(d), pack(q, 4, 16)], axis=1).ravel()


def encode_q4_1(values: Floats) -> Bytes:
    """The smallest value becomes 0, the largest 15."""
    d, m, q = _from_minimum(values, 15)
    return np.concatenate([to_halves(d), to_halves(m), pack(q, 4, 16)], axis=1).ravel()


def encode_q5_0(values: Floats) -> Bytes:
    """The value of largest magnitude becomes -16; halves go up."""
    d, q = _around_zero(values, 32)
    return np.concatenate(
        [to_halves(d), pack(q >> np.uint8(4), 1, 1), pack(q & np.uint8(15), 4, 16)], axis=1
    ).ravel()


def encode_q5_1(values: Floats) -> Bytes:
    """The smallest value becomes 0, the largest 31."""
    d, m, q = _from_minimum(values, 31)
    return np.concatenate(
        [to_halves(d), to_halves(m), pack(q >> np.uint8(4), 1, 1), pack(q & np.uint8(15), 4, 16)], axis=1
    ).ravel()


def _integers(low: Bytes, high: Bytes | None = None) -> Floats:
    q = unpack(low, 4, 16)
    return (q if high is None else q | unpack(high, 1, 1) << 4).astype(np.float32)


def _scaled(d: Floats, q: Floats, m: Floats | None = None) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        return (d * q if m is None else d * q + m).ravel()


def _around_zero(values: Floats, n_levels: int) -> tuple[Floats, NDArray[np.uint8]]:
    """Scales (n_blocks, 1) and integers (n_blocks, 32) whose middle means zero."""
    x = values.reshape(-1, 32)
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    # Zeros have the scale -0.0, whatever the sign of the first of them.
    largest[largest == 0] = 0
    d: Floats = largest / np.float32(-n_levels // 2)
    return d, _levels(x, d, n_levels / 2 + 0.5, n_levels - 1)


def _from_minimum(values: Floats, top: int) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Scales and minima (n_blocks, 1) and integers (n_blocks, 32)."""
    x = values.reshape(-1, 32)
    # The first of several minima: it may be -0.0, where `min` would give 0.0.
    m = np.take_along_axis(x, x.argmin(axis=1)[:, None], axis=1)
    with np.errstate(over="ignore"):
        d = (x.max(axis=1, keepdims=True) - m) / np.float32(top)
        return d, m, _levels(x - m, d, 0.5, top)


def _levels(x: Floats, d: Floats, offset: float, top: int) -> NDArray[np.uint8]:
    """``x / d + offset`` truncated, at most `top`; a block whose denormal scale has no inverse becomes zeros."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore", under="ignore"):
        inverse = np.where(d == 0, np.float32(0), np.float32(1) / d)
        levels: Floats = x * inverse + np.float32(offset)
    levels[~np.isfinite(inverse)[:, 0]] = 0
    q: NDArray[np.uint8] = np.minimum(levels, np.float32(top)).astype(np.uint8)
    return q
