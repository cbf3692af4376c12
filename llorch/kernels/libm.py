"""Float32 functions of the C library, which llama.cpp calls: Numba's cosine goes through float64 instead.

They are within 0.6 ulp, not always the nearest float32, so only the same function gives the same bits.
"""

from __future__ import annotations

from typing import Any

from numba import types

from llorch.kernels.intrinsics import F32, call, intrinsic


def _of_one(name: str) -> Any:
    @intrinsic
    def function(typingctx, x):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return call(builder, name, F32, list(args))

        return types.float32(types.float32), codegen

    return function


cosf, sinf, expf = (_of_one(name) for name in ("cosf", "sinf", "expf"))


@intrinsic
def powf(typingctx, base, exponent):
    """`base` to the power of `exponent`, float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call(builder, "powf", F32, list(args))

    return types.float32(types.float32, types.float32), codegen
