"""Q2_K to Q6_K: super-blocks of 256 values, whose 8 or 16 blocks have integer scales (and minima) of few bits.

A value is ``d * scale * q``, less ``dmin * minimum`` in Q2_K, Q4_K and Q5_K; `d` and `dmin` are float16.

Source: `gguf.quants`, bit-exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llorch.quant.codecs.block_fields import halves, split, unpack
from llorch.quant.codecs.floats import Bytes, Floats

Integers = NDArray[np.uint8] | NDArray[np.int8]


def decode_q2_k(data: Bytes) -> Floats:
    """16 blocks of 16: scale and minimum are the halves of a byte, values have two bits."""
    scales, low, d, dmin = split(data, 16, 64, 2, 2)
    return _values(halves(d), scales & 15, unpack(low, 2, 32), halves(dmin), scales >> np.uint8(4))


def decode_q3_k(data: Bytes) -> Floats:
    """16 blocks of 16: scales of six bits, less 32; values of three bits, less 4, the high one apart."""
    high, low, scales, d = split(data, 32, 64, 12, 2)
    six = unpack(scales[:, :8], 4, 8) | unpack(scales[:, 8:], 2, 4) << 4
    q = unpack(low, 2, 32) | unpack(high, 1, 32) << 2
    return _values(halves(d), six.view(np.int8) - np.int8(32), q.view(np.int8) - np.int8(4))


def decode_q4_k(data: Bytes) -> Floats:
    """8 blocks of 32: scales and minima of six bits, values of four."""
    d, dmin, six, low = split(data, 2, 2, 12, 128)
    scales, minima = six_bit_scales(six)
    return _values(halves(d), scales, unpack(low, 4, 32), halves(dmin), minima)


def decode_q5_k(data: Bytes) -> Floats:
    """As Q4_K, with a fifth bit of every value."""
    d, dmin, six, high, low = split(data, 2, 2, 12, 32, 128)
    scales, minima = six_bit_scales(six)
    return _values(halves(d), scales, unpack(low, 4, 32) | unpack(high, 1, 32) << 4, halves(dmin), minima)


def decode_q6_k(data: Bytes) -> Floats:
    """16 blocks of 16: int8 scales, values of six bits, less 32."""
    low, high, scales, d = split(data, 128, 64, 16, 2)
    q = unpack(low, 4, 64) | unpack(high, 2, 32) << 4
    return _values(halves(d), scales.view(np.int8), q.view(np.int8) - np.int8(32))


def six_bit_scales(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Scales and minima of Q4_K and Q5_K.

    Args:
        packed: uint8 (n, 12): four scales and four minima of six bits, above which lie the upper two bits of four more,
            whose lower four bits are the halves of the last four bytes.

    Returns:
        Scales and minima, uint8 (n, 8) each.
    """
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, last & 15 | first >> 2 & 48], axis=1)
    return scales, np.concatenate([second & 63, last >> 4 | second >> 2 & 48], axis=1)


def _values(
    d: Floats, scales: Integers, q: Integers, dmin: Floats | None = None, minima: Bytes | None = None
) -> Floats:
    """``(d * scales) * q - dmin * minima``; scales and minima (n, n_scales), q (n, 256)."""
    blocks = q.astype(np.float32).reshape(*scales.shape, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        values = (d * scales.astype(np.float32))[:, :, None] * blocks
        if dmin is not None and minima is not None:
            values -= (dmin * minima.astype(np.float32))[:, :, None]
    return values.ravel()
