"""Float16 vectors, on CPUs with and without instructions for them."""

from __future__ import annotations

from typing import Any

from llorch.kernels import paths
from llorch.kernels.emit.values import F16, F32, I16, I32, constant, vector


def half_to_float(builder: Any, bits: Any) -> Any:
    """Widen a vector of int16 float16 bit patterns to float32, exactly.

    With the F16C instructions (or on ARM) this is one conversion; elsewhere LLVM would call a library
    function that a JIT cannot find, so it is done with integer operations.
    """
    n = bits.type.count
    as_float = vector(F32, n)
    if paths.has("f16c") or paths.has("neon"):
        return builder.fpext(builder.bitcast(bits, vector(F16, n)), as_float)
    wide = builder.zext(bits, vector(I32, n))
    magnitude = builder.shl(builder.and_(wide, constant(I32, n, 0x7FFF)), constant(I32, n, 13))
    sign = builder.shl(builder.and_(wide, constant(I32, n, 0x8000)), constant(I32, n, 16))
    # Reading the half's exponent as a float's is off by 2^112; the product also normalises subnormals.
    scaled = builder.fmul(builder.bitcast(magnitude, as_float), constant(F32, n, float(2.0**112)))
    special = builder.icmp_unsigned(">=", magnitude, constant(I32, n, 0x7C00 << 13))
    infinite = builder.or_(magnitude, constant(I32, n, 0x7F800000))
    chosen = builder.select(special, infinite, builder.bitcast(scaled, vector(I32, n)))
    return builder.bitcast(builder.or_(chosen, sign), as_float)


def float_to_half(builder: Any, x: Any) -> Any:
    """Bit patterns (int16) of the float16 nearest to a vector of float32, ties to even: `convert.float32_to_half`."""
    n = x.type.count
    words, shorts = vector(I32, n), vector(I16, n)
    as_words = builder.bitcast(x, words)
    magnitude = builder.and_(as_words, constant(I32, n, 0x7FFFFFFF))
    infinity = constant(I32, n, 0x7F800000)
    is_nan = builder.icmp_signed(">", magnitude, infinity)
    sign = builder.trunc(
        builder.and_(builder.lshr(as_words, constant(I32, n, 16)), constant(I32, n, 0x8000)), shorts
    )
    nan = builder.or_(sign, constant(I16, n, 0x7E00))
    if paths.has("f16c") or paths.has("neon"):
        # The instruction keeps a part of what a NaN carries.
        return builder.select(is_nan, nan, builder.bitcast(builder.fptrunc(x, vector(F16, n)), shorts))
    as_float = vector(F32, n)
    # Adding 0.5 puts the rounding where a subnormal half ends; the sum's low bits are the answer.
    shifted = builder.fadd(builder.bitcast(magnitude, as_float), constant(F32, n, 0.5))
    subnormal = builder.sub(builder.bitcast(shifted, words), constant(I32, n, 0x3F000000))
    odd = builder.and_(builder.lshr(magnitude, constant(I32, n, 13)), constant(I32, n, 1))
    raised = builder.add(builder.add(magnitude, constant(I32, n, 0xFFF - 0x38000000)), odd)
    normal = builder.lshr(raised, constant(I32, n, 13))
    half = builder.select(
        builder.icmp_signed("<", magnitude, constant(I32, n, 0x38800000)), subnormal, normal
    )
    too_large = builder.icmp_signed(">=", magnitude, constant(I32, n, 0x477FF000))
    half = builder.select(too_large, constant(I32, n, 0x7C00), half)
    return builder.select(is_nan, nan, builder.or_(builder.trunc(half, shorts), sign))
