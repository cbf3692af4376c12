"""The few things Numba cannot say: raw memory, atomics, bit casts, pause, prefetch and half floats.

Addresses are int64. Vectors cannot cross an intrinsic's boundary, so whole inner loops are emitted elsewhere
(`linear/`, `attention`); here are the scalars and the helpers that build their LLVM IR.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from llorch.kernels import paths

intrinsic: Any = extending.intrinsic
"""Numba's decorator; the functions it makes are called with one argument less than they declare."""


I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


def vector(element: Any, n: int) -> Any:
    """LLVM's type ``<n x element>``."""
    return ir.VectorType(element, n)


def splat(builder: Any, value: Any, n: int) -> Any:
    """A vector of `n` copies of a scalar."""
    undefined = ir.Constant(vector(value.type, n), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(vector(I32, n), [0] * n))


def constant(element: Any, n: int, value: float) -> Any:
    """A constant vector of `n` equal elements."""
    return ir.Constant(vector(element, n), [value] * n)


def load(builder: Any, type_: Any, address: Any, offset: int = 0, align: int = 1) -> Any:
    """Load a value of `type_` from the int64 `address` plus a constant byte offset."""
    if offset:
        address = builder.add(address, ir.Constant(I64, offset))
    result = builder.load(builder.inttoptr(address, type_.as_pointer()))
    result.align = align
    return result


def store(builder: Any, value: Any, address: Any, offset: int = 0, align: int = 1) -> None:
    """Store `value` at the int64 `address` plus a constant byte offset."""
    if offset:
        address = builder.add(address, ir.Constant(I64, offset))
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    """Call the LLVM intrinsic (or C function) `name`."""
    function_type = ir.FunctionType(result, [a.type for a in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, args)


def prefetch(builder: Any, address: Any, *, for_writing: bool = False) -> None:
    """Ask for the cache line at `address`; never faults."""
    hints = (int(for_writing), 3, 1)
    arguments = [builder.inttoptr(address, I8.as_pointer()), *(ir.Constant(I32, k) for k in hints)]
    call(builder, "llvm.prefetch.p0", ir.VoidType(), arguments)


def outlined(builder: Any, name: str, args: Any, emit: Any, result: Any = None) -> Any:
    """Call a function of its own that `emit(builder, args)` fills, once per module.

    Inside a larger function LLVM may move loads out of a micro-kernel's loop and spill its accumulators,
    depending on what else stands there; by itself a loop gets all registers and is always compiled the same.
    With a `result` type, what `emit` returns is the call's value.
    """
    function = builder.module.globals.get(name)
    if function is None:
        signature = ir.FunctionType(result or ir.VoidType(), [a.type for a in args])
        function = ir.Function(builder.module, signature, name)
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        value = emit(inner, function.args)
        if result is None:
            inner.ret_void()
        else:
            inner.ret(value)
    return builder.call(function, args)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` with one rounding, scalars or vectors of float32."""
    suffix = "f32" if a.type == F32 else f"v{a.type.count}f32"
    return call(builder, f"llvm.fma.{suffix}", a.type, [a, b, c])


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


def sum_lanes(builder: Any, value: Any) -> Any:
    """Horizontal sum of a float vector in one fixed order (halves onto each other)."""
    n = value.type.count
    undefined = ir.Constant(value.type, ir.Undefined)
    while n > 1:
        n //= 2
        total = value.type.count
        mask = [(i + n) if i < n else 0 for i in range(total)]
        moved = builder.shuffle_vector(value, undefined, ir.Constant(vector(I32, total), mask))
        value = builder.fadd(value, moved)
    return builder.extract_element(value, ir.Constant(I32, 0))


def loop(builder: Any, n: Any, starts: list[Any], body: Any) -> list[Any]:
    """Emit ``for i in range(n): values = body(i, values)``; returns the final values."""
    entry = builder.block
    head, inner, done = (builder.append_basic_block(name) for name in ("head", "inner", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(ir.Constant(I64, 0), entry)
    values = [builder.phi(start.type) for start in starts]
    for phi, start in zip(values, starts, strict=True):
        phi.add_incoming(start, entry)
    builder.cbranch(builder.icmp_signed("<", i, n), inner, done)
    builder.position_at_end(inner)
    after = body(i, values)
    for phi, value in zip(values, after, strict=True):
        phi.add_incoming(value, builder.block)
    i.add_incoming(builder.add(i, ir.Constant(I64, 1)), builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return list(values)


def _pointer_intrinsic(element: Any) -> Any:
    @intrinsic
    def pointer(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), codegen

    return pointer


as_float32 = _pointer_intrinsic(types.float32)
as_int64 = _pointer_intrinsic(types.int64)
as_int32 = _pointer_intrinsic(types.int32)
as_int8 = _pointer_intrinsic(types.int8)
as_uint16 = _pointer_intrinsic(types.uint16)


@intrinsic
def atomic_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at `address`; returns what stood there before (sequentially consistent)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx: Any, address: Any) -> Any:
    """Read the int64 at `address` (sequentially consistent)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the int64 at `address` (sequentially consistent)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the core that this is a spin loop."""
    machine = platform.machine().lower()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if machine in ("x86_64", "amd64"):
            call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif machine in ("aarch64", "arm64"):
            call(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.Constant(I32, 1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_cpu(typingctx: Any) -> Any:
    """Let another thread run on this core (POSIX `sched_yield`)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, "sched_yield", I32, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def sleep_us(typingctx: Any, microseconds: Any) -> Any:
    """Sleep for some microseconds (POSIX `usleep`)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, "usleep", I32, [builder.trunc(args[0], I32)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def ticks(typingctx: Any) -> Any:
    """The CPU's cycle or timestamp counter; calibrate it against a clock."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call(builder, "llvm.readcyclecounter", I64, [])

    return types.int64(), codegen


@intrinsic
def float32_of_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 whose bit pattern is the low half of an int64 or an int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0] if args[0].type == I32 else builder.trunc(args[0], I32)
        return builder.bitcast(value, F32)

    return types.float32(bits), codegen


@intrinsic
def bits_of_float32(typingctx: Any, value: Any) -> Any:
    """The bit pattern of a float32 as int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], I32)

    return types.int32(types.float32), codegen


@intrinsic
def fused_multiply_add(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` in float32 with one rounding."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return fma(builder, args[0], args[1], args[2])

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def half_to_float32(typingctx: Any, bits: Any) -> Any:
    """The value of one float16 bit pattern (uint16)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(I32, 0)
        one = builder.insert_element(ir.Constant(vector(I16, 1), ir.Undefined), args[0], zero)
        return builder.extract_element(half_to_float(builder, one), zero)

    return types.float32(types.uint16), codegen


@intrinsic
def prefetch_line(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at `address`; never faults."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        prefetch(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen
