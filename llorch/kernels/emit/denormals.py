"""Whether a thread's float instructions keep denormal numbers or take them for zeros."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from llorch.kernels.emit import scalars
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import I8, I32, I64, VOID, Int, call

_OF_X86 = 0x8040
"""Flush to zero, and denormals are zeros, in MXCSR."""
_OF_ARM = 1 << 24
"""FZ of FPCR, which is both. (It tests results before they are rounded, x86 afterwards: what rounds up to the smallest
normal number is zero on ARM.)"""


def _set(builder: Any, mode: Any) -> None:
    if scalars.IS_ARM:
        call(builder, "llvm.aarch64.set.fpcr", VOID, [mode])
    elif scalars.IS_X86:
        place = cgutils.alloca_once(builder, I32)
        builder.store(builder.trunc(mode, I32), place)
        call(builder, "llvm.x86.sse.ldmxcsr", VOID, [builder.bitcast(place, I8.as_pointer())])


@emitted(types.int64())
def denormals_as_zeros(builder: Any) -> Any:
    """From here on this thread takes denormal operands for zeros and gives zeros in place of denormal results.

    Returns the mode before, for `set_float_mode`. Other machines than x86-64 and ARM keep theirs.
    """
    if scalars.IS_ARM:
        mode = call(builder, "llvm.aarch64.get.fpcr", I64, [])
        _set(builder, builder.or_(mode, ir.Constant(I64, _OF_ARM)))
        return mode
    if scalars.IS_X86:
        place = cgutils.alloca_once(builder, I32)
        call(builder, "llvm.x86.sse.stmxcsr", VOID, [builder.bitcast(place, I8.as_pointer())])
        mode = builder.zext(builder.load(place), I64)
        _set(builder, builder.or_(mode, ir.Constant(I64, _OF_X86)))
        return mode
    return ir.Constant(I64, 0)


@emitted(types.void(types.int64))
def set_float_mode(builder: Any, mode: Int) -> None:
    """Bring back what `denormals_as_zeros` returned."""
    _set(builder, mode.value)
