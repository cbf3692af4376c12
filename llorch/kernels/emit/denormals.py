"""Whether a thread's float instructions keep denormal numbers or take them for zeros."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import I8, I32, I64, VOID, Int, call

_IS_ARM = platform.machine().lower() in ("aarch64", "arm64")
_AS_ZEROS = 1 << 24 if _IS_ARM else 0x8040
"""FZ of ARM's FPCR; "flush to zero" and "denormals are zeros" of x86's MXCSR."""


def _set(builder: Any, mode: Any) -> None:
    if _IS_ARM:
        call(builder, "llvm.aarch64.set.fpcr", VOID, [mode])
        return
    place = cgutils.alloca_once(builder, I32)
    builder.store(builder.trunc(mode, I32), place)
    call(builder, "llvm.x86.sse.ldmxcsr", VOID, [builder.bitcast(place, I8.as_pointer())])


@emitted(types.int64())
def denormals_as_zeros(builder: Any) -> Any:
    """From here on this thread takes denormal operands for zeros and gives zeros in place of denormal results.

    Returns the mode before, for `set_float_mode`.
    """
    if _IS_ARM:
        mode = call(builder, "llvm.aarch64.get.fpcr", I64, [])
    else:
        place = cgutils.alloca_once(builder, I32)
        call(builder, "llvm.x86.sse.stmxcsr", VOID, [builder.bitcast(place, I8.as_pointer())])
        mode = builder.zext(builder.load(place), I64)
    _set(builder, builder.or_(mode, ir.Constant(I64, _AS_ZEROS)))
    return mode


@emitted(types.void(types.int64))
def set_float_mode(builder: Any, mode: Int) -> None:
    """Bring back what `denormals_as_zeros` returned."""
    _set(builder, mode.value)
