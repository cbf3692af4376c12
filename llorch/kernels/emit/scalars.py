"""Raw memory, atomics, bit casts, hints to the CPU and the C library, for kernels: addresses are int64."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.halves import half_to_float
from llorch.kernels.emit.values import F32, F64, I8, I16, I32, I64, VOID, Int, call, fma, prefetch, vector

_MACHINE = platform.machine().lower()
IS_X86, IS_ARM = (_MACHINE in names for names in (("x86_64", "amd64"), ("aarch64", "arm64")))


def _pointer_to(element: Any, type_: Any) -> Any:
    @emitted(types.CPointer(element)(types.int64))
    def pointer(builder: Any, address: Int) -> Any:
        """The values at `address`: ``x[i]`` reads and writes number `i`, without a look at bounds."""
        return address.pointer(type_)

    return pointer


as_float32 = _pointer_to(types.float32, F32)
as_float64 = _pointer_to(types.float64, F64)
as_int64 = _pointer_to(types.int64, I64)
as_int32 = _pointer_to(types.int32, I32)
as_int8 = _pointer_to(types.int8, I8)
as_uint16 = _pointer_to(types.uint16, I16)


@emitted(types.int64(types.int64, types.int64))
def atomic_add(builder: Any, address: Int, value: Int) -> Any:
    """Add to the int64 at `address`; returns what stood there before (sequentially consistent)."""
    return builder.atomic_rmw("add", address.pointer(I64), value.value, "seq_cst")


@emitted(types.int64(types.int64))
def atomic_load(builder: Any, address: Int) -> Any:
    """Read the int64 at `address` (sequentially consistent)."""
    return builder.load_atomic(address.pointer(I64), "seq_cst", 8)


@emitted(types.void(types.int64, types.int64))
def atomic_store(builder: Any, address: Int, value: Int) -> None:
    """Write the int64 at `address` (sequentially consistent)."""
    builder.store_atomic(value.value, address.pointer(I64), "seq_cst", 8)


@emitted(types.void())
def pause(builder: Any) -> None:
    """Tell the core that this is a spin loop."""
    if IS_X86:
        call(builder, "llvm.x86.sse2.pause", VOID, [])
    elif IS_ARM:
        call(builder, "llvm.aarch64.hint", VOID, [ir.Constant(I32, 1)])


@emitted(types.void())
def yield_cpu(builder: Any) -> None:
    """Let another thread run on this core (POSIX `sched_yield`)."""
    call(builder, "sched_yield", I32, [])


@emitted(types.void(types.int64))
def usleep(builder: Any, microseconds: Int) -> None:
    """Sleep for some microseconds (POSIX `usleep`)."""
    call(builder, "usleep", I32, [builder.trunc(microseconds.value, I32)])


@emitted(types.int64())
def ticks(builder: Any) -> Any:
    """The CPU's cycle or timestamp counter; calibrate it against a clock."""
    if IS_ARM:  # LLVM's cycle counter is one that Linux does not let programs read; this one runs evenly
        register = builder.module.add_metadata(["cntvct_el0"])  # inline assembly would need LLVM's parser
        return call(builder, "llvm.read_volatile_register.i64", I64, [register])
    return call(builder, "llvm.readcyclecounter", I64, [])


@emitted(types.void(types.int64))
def prefetch_line(builder: Any, address: Int) -> None:
    """Ask for the cache line at `address`, to be brought into the second cache; never faults."""
    prefetch(address, level=2)


@emitted(types.void(types.int64))
def prefetch_to_write(builder: Any, address: Int) -> None:
    """Ask for the cache line at `address`, to be brought into the first cache for this core alone; never faults."""
    prefetch(address, for_writing=True)


@emitted(types.int64(types.int64))
def allocate(builder: Any, n_bytes: Int) -> Any:
    """Memory from the C library (`malloc`), to be given back with `release`; for slow twins, kernels get scratch."""
    return builder.ptrtoint(call(builder, "malloc", I8.as_pointer(), [n_bytes.value]), I64)


@emitted(types.void(types.int64))
def release(builder: Any, address: Int) -> None:
    """Give memory of `allocate` back (`free`)."""
    call(builder, "free", VOID, [address.pointer(I8)])


@emitted(types.float32)
def float32_of_bits(builder: Any, bits: Any) -> Any:
    """The float32 whose bit pattern is an int32, or the low half of an int64."""
    return builder.bitcast(builder.trunc(bits.value, I32) if isinstance(bits, Int) else bits, F32)


@emitted(types.int32(types.float32))
def bits_of_float32(builder: Any, value: Any) -> Any:
    """The bit pattern of a float32."""
    return builder.bitcast(value, I32)


@emitted(types.float32(types.float32, types.float32, types.float32))
def fused_multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` in float32 with one rounding."""
    return fma(builder, a, b, c)


@emitted(types.float32(types.uint16))
def half_to_float32(builder: Any, bits: Any) -> Any:
    """The value of one float16 bit pattern."""
    zero = ir.Constant(I32, 0)
    one = builder.insert_element(ir.Constant(vector(I16, 1), ir.Undefined), bits, zero)
    return builder.extract_element(half_to_float(builder, one), zero)


def _c_function(name: str, n_args: int) -> Any:
    """A float32 function of the C library, which llama.cpp calls, too.

    Numba's own cosine goes through float64. The C library's functions are within 0.6 ulp, not always the nearest
    float32, so only the same function gives the same bits.
    """
    if n_args == 1:

        @emitted(types.float32(types.float32))
        def of_one(builder: Any, x: Any) -> Any:
            return call(builder, name, F32, [x])

        return of_one

    @emitted(types.float32(types.float32, types.float32))
    def of_two(builder: Any, x: Any, y: Any) -> Any:
        return call(builder, name, F32, [x, y])

    return of_two


cosf, sinf, expf, logf, powf = (
    _c_function(name, n) for name, n in (("cosf", 1), ("sinf", 1), ("expf", 1), ("logf", 1), ("powf", 2))
)
