"""Readable NumPy codecs of each type: the slow twins of the kernels, not made for speed.

Source: `gguf.quants` and ggml's `quantize_row_q8_0`, bit-exact for finite values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llorch.quant.tensor import Tensor
from llorch.quant.types import BF16, F16, F32, Q8_0, QuantType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

Q8_0_SCALE_BYTES = 2
"""A Q8_0 block is a float16 scale, then 32 int8."""


def dequantize(tensor: Tensor) -> Floats:
    """The values of a tensor: float32, of the tensor's shape, a fresh array."""
    return _DECODERS[tensor.type.name](tensor.data).reshape(tensor.shape)


def quantize(values: Floats, quant_type: QuantType) -> Bytes:
    """Quantise values to `quant_type`, as a converter does when it writes a file.

    Args:
        values: float32 (..., n), n a multiple of the block size.
        quant_type: the type to store as.

    Returns:
        uint8 (n_bytes,), a fresh array.

    Raises:
        ValueError: the rows are not whole blocks.
    """
    quant_type.row_bytes(values.shape[-1])
    return _ENCODERS[quant_type.name](np.ascontiguousarray(values, np.float32).ravel())


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
    blocks = x.reshape(*x.shape[:-1], -1, Q8_0.block_size)
    amax = np.abs(blocks).max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        d = (amax / np.float32(127)).astype(np.float16).astype(np.float32)
        q = _to_int8(np.rint(blocks * (np.float32(127) / amax)))
    return q.reshape(x.shape), d[..., 0]


def first_bad_scale(tensor: Tensor) -> int | None:
    """Index of the first block whose scale is NaN or infinite (plain floats: of the first such value)."""
    if tensor.type == Q8_0:
        scales = _q8_0_blocks(tensor.data)[:, :Q8_0_SCALE_BYTES].copy().view("<f2")
    elif tensor.type == F16:
        scales = tensor.data.view("<f2")
    elif tensor.type == F32:
        scales = tensor.data.view("<f4")
    else:
        scales = _decode_bf16(tensor.data)
    bad = ~np.isfinite(scales.ravel())
    return int(bad.argmax()) if bad.any() else None


def _to_int8(rounded: Floats) -> NDArray[np.int8]:
    """int8 of rounded values; infinities and NaN, which come from a denormal or zero scale, become 0."""
    return np.where(np.isfinite(rounded), rounded, np.float32(0)).astype(np.int8)


def _decode_f32(data: Bytes) -> Floats:
    return data.view("<f4").astype(np.float32)


def _encode_f32(values: Floats) -> Bytes:
    return values.astype("<f4").view(np.uint8)


def _decode_f16(data: Bytes) -> Floats:
    return data.view("<f2").astype(np.float32)


def _encode_f16(values: Floats) -> Bytes:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype("<f2").view(np.uint8)


def _decode_bf16(data: Bytes) -> Floats:
    """A bfloat16 is the upper half of a float32."""
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _encode_bf16(values: Floats) -> Bytes:
    """Round to nearest, ties to even; a NaN stays a NaN with its quiet bit set."""
    bits = values.view(np.uint32)
    is_nan = (bits & 0x7FFF_FFFF) > 0x7F80_0000
    ties_to_even = 0x7FFF + ((bits >> 16) & 1)
    upper = np.where(is_nan, (bits >> 16) | 0x40, (bits.astype(np.uint64) + ties_to_even) >> 16)
    return upper.astype("<u2").view(np.uint8)


def _q8_0_blocks(data: Bytes) -> Bytes:
    return data.reshape(-1, Q8_0.block_bytes)


def _decode_q8_0(data: Bytes) -> Floats:
    blocks = _q8_0_blocks(data)
    d = blocks[:, :Q8_0_SCALE_BYTES].copy().view("<f2").astype(np.float32)  # (n_blocks, 1)
    q = blocks[:, Q8_0_SCALE_BYTES:].view(np.int8).astype(np.float32)  # (n_blocks, 32)
    with np.errstate(over="ignore", invalid="ignore"):
        return q * d


def _encode_q8_0(values: Floats) -> Bytes:
    """Scale by ``1 / d`` with the unrounded `d`, round halves away from zero, store `d` as float16."""
    blocks = values.reshape(-1, Q8_0.block_size)
    d = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        scaled = blocks * np.where(d == 0, np.float32(0), np.float32(1) / d)
        q = _to_int8(_round_half_away(scaled))
        stored_d = d.astype("<f2")
    return np.concatenate([stored_d.view(np.uint8), q.view(np.uint8)], axis=1).ravel()


def _round_half_away(values: Floats) -> Floats:
    """C's `roundf`. Adding 0.5 before `floor` would be off for the float just below a half."""
    magnitude = np.abs(values)
    whole = np.floor(magnitude)
    rounded: Floats = np.copysign(whole + (magnitude - whole >= 0.5), values)
    return rounded


_DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    F32.name: _decode_f32,
    F16.name: _decode_f16,
    BF16.name: _decode_bf16,
    Q8_0.name: _decode_q8_0,
}
_ENCODERS: dict[str, Callable[[Floats], Bytes]] = {
    F32.name: _encode_f32,
    F16.name: _encode_f16,
    BF16.name: _encode_bf16,
    Q8_0.name: _encode_q8_0,
}
