"""Encoders of Q3_K to Q6_K: super-blocks of 256 values whose scales are integers of few bits themselves.

Each encoder takes float32 values, whole super-blocks of finite numbers, and returns their bytes.

Source: ggml's `quantize_row_q3_K_ref` to `quantize_row_q6_K_ref`, bit-exact but for blocks of magnitudes below 1e-30.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llorch.convert.scale_search import SMALLEST, search_one_by_one, search_symmetric, search_with_minimum
from llorch.quant.codecs.block_fields import halves, pack, to_halves
from llorch.quant.codecs.floats import Bytes, Floats

SUPER_BLOCK = 256


@np.errstate(all="ignore")
def encode_q3_k(values: Floats) -> Bytes:
    """Scales of six bits and integers of three, both around zero."""
    x = _columns(values, 16)
    scales, q = search_one_by_one(x, 4)
    d, whole = _whole_scales(scales.reshape(-1, 16), -32, 31)
    low, high = _low_high(_again(x, q, _product(d, whole), -4, 3), 2)
    six = (whole + np.float32(32)).astype(np.uint8)
    six[d[:, 0] == 0] = 0
    packed_scales = [pack(six & np.uint8(15), 4, 8), pack(six >> np.uint8(4), 2, 4)]
    return _joined(pack(high, 1, 32), pack(low, 2, 32), *packed_scales, to_halves(d))


@np.errstate(all="ignore")
def encode_q4_k(values: Floats) -> Bytes:
    """Scales and minima of six bits, integers of four."""
    scales, q = _with_minimum(values, 15, -1.0, 20)
    return _joined(*scales, pack(q, 4, 32))


@np.errstate(all="ignore")
def encode_q5_k(values: Floats) -> Bytes:
    """Scales and minima of six bits, integers of five."""
    scales, q = _with_minimum(values, 31, -0.5, 15)
    low, high = _low_high(q, 4)
    return _joined(*scales, pack(high, 1, 32), pack(low, 4, 32))


@np.errstate(all="ignore")
def encode_q6_k(values: Floats) -> Bytes:
    """Scales of eight bits and integers of six, both around zero."""
    x = _columns(values, 16)
    scales, q = search_symmetric(x, 32)
    d, whole = _whole_scales(scales.reshape(-1, 16), -128, 127)
    integers = _again(x, q, _product(d, whole), -32, 31)
    integers[d[:, 0] == 0] = 0
    low, high = _low_high(integers, 4)
    return _joined(pack(low, 4, 64), pack(high, 2, 32), whole.astype(np.int8).view(np.uint8), to_halves(d))


K_ENCODERS: dict[str, Callable[[Floats], Bytes]] = {
    "Q3_K": encode_q3_k,
    "Q4_K": encode_q4_k,
    "Q5_K": encode_q5_k,
    "Q6_K": encode_q6_k,
}
"""By name of the type."""


def _columns(values: Floats, block_size: int) -> Floats:
    """float32 (block_size, n_blocks): a column for each block."""
    return np.ascontiguousarray(values.reshape(-1, block_size).T)


def _joined(*fields: Bytes) -> Bytes:
    return np.concatenate(fields, axis=1).ravel()


def _low_high(q: NDArray[np.uint8], n_bits: int) -> tuple[Bytes, Bytes]:
    """The lowest `n_bits` bits, and what is above them."""
    return q & np.uint8((1 << n_bits) - 1), q >> np.uint8(n_bits)


def _product(d: Floats, whole: Floats) -> Floats:
    """Scales as a decoder sees them, float32 (n_blocks,): `d` is rounded to float16."""
    return (halves(to_halves(d)) * whole).ravel()


def _whole_scales(scales: Floats, low: int, high: int) -> tuple[Floats, Floats]:
    """Scales (n, n_scales) as `d` (n, 1) times whole numbers, of which the largest magnitude becomes `low`."""
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
    is_zero = np.abs(largest) < SMALLEST
    largest[is_zero] = 1
    inverse = np.float32(low) / largest
    d = np.float32(1) / inverse
    d[is_zero] = 0
    return d, np.clip(np.rint(scales * inverse), np.float32(low), np.float32(high))


def _again(x: Floats, q: Floats, scales: Floats, low: int, high: int) -> NDArray[np.uint8]:
    """Integers for the scales as they are stored, less `low`; those of the search where a scale is zero."""
    whole = np.clip(np.rint(x / scales), np.float32(low), np.float32(high)) - np.float32(low)
    np.copyto(whole, q, where=scales == 0)
    integers: NDArray[np.uint8] = whole.T.reshape(-1, SUPER_BLOCK).astype(np.uint8)
    return integers


def _with_minimum(
    values: Floats, top: int, first: float, n_steps: int
) -> tuple[tuple[Bytes, Bytes, Bytes], NDArray[np.uint8]]:
    """The fields `d`, `dmin` and packed scales of Q4_K and Q5_K, and the integers (n, 256)."""
    x = _columns(values, 32)
    weights = np.sqrt(np.add.reduce(x * x, axis=0) / np.float32(32)) + np.abs(x)
    scales, minima, q = search_with_minimum(x, weights, top, first, n_steps)
    d, whole_scales = _six_bits(scales.reshape(-1, 8))
    dmin, whole_minima = _six_bits(minima.reshape(-1, 8))
    shifted = x + _product(dmin, whole_minima)
    q8 = _again(shifted, q, _product(d, whole_scales), 0, top)
    packed = _pack_six_bits(whole_scales.astype(np.uint8), whole_minima.astype(np.uint8))
    return (to_halves(d), to_halves(dmin), packed), q8


def _six_bits(values: Floats) -> tuple[Floats, Floats]:
    """Numbers (n, 8) that are not negative, as a factor (n, 1) times whole numbers up to 63."""
    largest = np.maximum(values.max(axis=1, keepdims=True), np.float32(0))
    inverse = np.float32(63) / largest
    inverse[~np.isfinite(inverse)] = 0
    return largest / np.float32(63), np.clip(np.rint(values * inverse), np.float32(0), np.float32(63))


def _pack_six_bits(scales: NDArray[np.uint8], minima: NDArray[np.uint8]) -> Bytes:
    """The inverse of `llorch.quant.codecs.k_quants.six_bit_scales`."""
    above = [(x[:, 4:] >> np.uint8(4)) << np.uint8(6) for x in (scales, minima)]
    last = scales[:, 4:] & np.uint8(15) | (minima[:, 4:] & np.uint8(15)) << np.uint8(4)
    return np.concatenate([scales[:, :4] | above[0], minima[:, :4] | above[1], last], axis=1)
