"""Float16 vectors, on CPUs with and without instructions for them."""

from __future__ import annotations

from typing import Any

from llorch.kernels import paths
from llorch.kernels.emit.values import F16, F32, I32, constant, vector


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
