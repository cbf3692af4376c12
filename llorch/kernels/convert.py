"""Scalar conversions between float formats, rounding exactly as NumPy and llama.cpp do."""

from __future__ import annotations

from numpy import float32, int32, uint16, uint32

from llorch.kernels.emit.scalars import bits_of_float32, float32_of_bits
from llorch.kernels.jit import inlined

_HALF_LIMIT = int32(0x477FF000)  # from here on (65520) a float32 rounds to a float16 infinity
_HALF_NORMAL = int32(0x38800000)  # 2^-14, the smallest normal float16
_INFINITY = int32(0x7F800000)


@inlined
def float32_to_half(x: float) -> int:
    """Bit pattern (int32) of the float16 nearest to a float32, ties to even."""
    bits = bits_of_float32(x)
    sign = (bits >> int32(16)) & int32(0x8000)
    magnitude = bits & int32(0x7FFFFFFF)
    if magnitude > _INFINITY:
        return sign | int32(0x7E00)
    if magnitude >= _HALF_LIMIT:
        return sign | int32(0x7C00)
    if magnitude < _HALF_NORMAL:
        # Adding 0.5 puts the rounding where a subnormal half ends; the sum's low bits are the answer.
        return sign | (bits_of_float32(float32_of_bits(magnitude) + float32(0.5)) - int32(0x3F000000))
    odd = (magnitude >> int32(13)) & int32(1)
    return sign | ((magnitude - int32(0x38000000) + int32(0xFFF) + odd) >> int32(13))


@inlined
def half_bits_to_float32(bits: int) -> float:
    """Value of a float16 bit pattern given as int32."""
    magnitude = (bits & int32(0x7FFF)) << int32(13)
    sign = (bits & int32(0x8000)) << int32(16)
    if magnitude >= int32(0x7C00 << 13):
        return float32_of_bits(sign | magnitude | _INFINITY)
    scaled = float32_of_bits(magnitude) * float32(2.0**112)
    return float32_of_bits(bits_of_float32(scaled) | sign)


@inlined
def round_to_half(x: float) -> float:
    """`x` after a round trip through float16."""
    return half_bits_to_float32(float32_to_half(x))


@inlined
def round_to_bfloat(x: float) -> float:
    """`x` after a round trip through bfloat16 (ties to even; NaN stays NaN)."""
    bits = bits_of_float32(x)
    if (bits & int32(0x7FFFFFFF)) > _INFINITY:
        return float32_of_bits(bits | int32(0x00400000))
    odd = (uint32(bits) >> uint32(16)) & uint32(1)
    rounded = (uint32(bits) + uint32(0x7FFF) + odd) & uint32(0xFFFF0000)
    return float32_of_bits(int32(rounded))


@inlined
def bfloat_to_float32(bits: int) -> float:
    """Value of a bfloat16 bit pattern given as uint16."""
    return float32_of_bits(int32(uint32(uint16(bits)) << uint32(16)))
