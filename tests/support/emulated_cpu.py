"""Kernel paths of CPUs that this machine is not: their vector instructions, done by others in the same kernels.

    python -m tests.support.emulated_cpu avx512 pytest tests/unit/kernels/weights

The path's own tiles, shapes and order of work run; only what one instruction does is spelled out. There is one set of
AMX registers, so products are to run on one thread.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_REGISTERS = np.zeros((8, 16, 64), np.uint8)
_CONFIG = np.zeros(64, np.uint8)
_REGISTERS_AT, _CONFIG_AT = int(_REGISTERS.ctypes.data), int(_CONFIG.ctypes.data)


@numba.extending.intrinsic
def _at(typingctx: Any, address: Any) -> Any:
    """An int64 address as a pointer to uint8."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], I8.as_pointer())

    return types.CPointer(types.uint8)(types.int64), codegen


@numba.njit
def _shape(register: int) -> Any:
    """Rows of a register and bytes of a row."""
    config = _at(_CONFIG_AT)
    return np.int64(config[48 + register]), np.int64(config[16 + 2 * register])


@numba.cfunc(types.void(types.int64))
def _configure(source: int) -> None:
    to, given = _at(_CONFIG_AT), _at(source)
    for i in range(64):
        to[i] = given[i]


@numba.cfunc(types.void(types.int64))
def _zero(register: int) -> None:
    c = _at(_REGISTERS_AT + register * 1024)
    for i in range(1024):
        c[i] = 0


@numba.cfunc(types.void(types.int64, types.int64, types.int64))
def _load(register: int, source: int, stride: int) -> None:
    rows, row_bytes = _shape(register)
    for row in range(rows):
        to, given = _at(_REGISTERS_AT + register * 1024 + row * 64), _at(source + row * stride)
        for i in range(row_bytes):
            to[i] = given[i]


@numba.cfunc(types.void(types.int64, types.int64, types.int64))
def _store(register: int, to: int, stride: int) -> None:
    rows, row_bytes = _shape(register)
    for row in range(rows):
        given, at = _at(_REGISTERS_AT + register * 1024 + row * 64), _at(to + row * stride)
        for i in range(row_bytes):
            at[i] = given[i]


@numba.cfunc(types.void(types.int64, types.int64, types.int64))
def _multiply(c: int, a: int, b: int) -> None:
    """tdpbssd: int32 of C plus the products of four int8 each."""
    rows, _ = _shape(c)
    _, depth = _shape(a)
    for m in range(rows):
        for n in range(16):
            at = _REGISTERS_AT + c * 1024 + m * 64 + n * 4
            out = _at(at)
            total = np.int32(0)
            for i in range(4):
                total |= np.int32(out[i]) << np.int32(8 * i)
            x = _at(_REGISTERS_AT + a * 1024 + m * 64)
            for k in range(depth):
                w = _at(_REGISTERS_AT + b * 1024 + k // 4 * 64 + n * 4)
                total += np.int32(np.int8(x[k])) * np.int32(np.int8(w[k % 4]))
            for i in range(4):
                out[i] = np.uint8((total >> np.int32(8 * i)) & np.int32(255))


_AMX = {
    "ldtilecfg": _configure,
    "tilezero": _zero,
    "tileloadd64": _load,
    "tilestored64": _store,
    "tdpbssd": _multiply,
}


def _call_amx(builder: Any, name: str, args: list[Any]) -> Any:
    if name == "tilerelease":
        return None
    wide = []
    for arg in args:
        is_pointer = isinstance(arg.type, ir.PointerType)
        wide.append(
            builder.ptrtoint(arg, I64) if is_pointer else builder.zext(arg, I64) if arg.type != I64 else arg
        )
    function = ir.FunctionType(ir.VoidType(), [I64] * len(wide))
    at = ir.Constant(I64, _AMX[name].address)
    return builder.call(builder.inttoptr(at, function.as_pointer()), wide)


def _lanes(builder: Any, value: Any, step: int, first: int) -> Any:
    n = value.type.count // step
    mask = ir.Constant(ir.VectorType(I32, n), [step * i + first for i in range(n)])
    return builder.shuffle_vector(value, value, mask)


def _add_quads(builder: Any, acc: Any, weights: Any, activation: Any) -> Any:
    """vpdpbusd: unsigned times signed bytes, four to an int32."""
    for j in range(4):
        w = builder.zext(_lanes(builder, weights, 4, j), acc.type)
        acc = builder.add(acc, builder.mul(w, builder.sext(_lanes(builder, activation, 4, j), acc.type)))
    return acc


def _sdot(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """Signed bytes, four to an int32."""
    for j in range(4):
        left, right = (builder.sext(_lanes(builder, value, 4, j), acc.type) for value in (a, b))
        acc = builder.add(acc, builder.mul(left, right))
    return acc


def _smmla(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """Signed bytes: rows of `a`, (2, 8), times those of `b`, to int32 (2, 2)."""
    for k in range(8):
        masks = [k, k, 8 + k, 8 + k], [k, 8 + k] * 2
        left, right = (
            builder.sext(
                builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, 4), mask)), acc.type
            )
            for value, mask in zip((a, b), masks, strict=True)
        )
        acc = builder.add(acc, builder.mul(left, right))
    return acc


def _tbl1(builder: Any, table: Any, numbers: Any) -> Any:
    """Bytes of a table of 16 by their numbers."""
    found = ir.Constant(table.type, [0] * 16)
    for number in range(16):
        value = builder.extract_element(table, ir.Constant(I32, number))
        value = builder.insert_element(ir.Constant(table.type, ir.Undefined), value, ir.Constant(I32, 0))
        value = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, 16), [0] * 16))
        is_it = builder.icmp_unsigned("==", numbers, ir.Constant(table.type, [number] * 16))
        found = builder.select(is_it, value, found)
    return found


def _add_pairs(builder: Any, a: Any, b: Any) -> Any:
    """vpmaddwd: signed words, two to an int32."""
    wide = ir.VectorType(I32, a.type.count // 2)
    products = []
    for j in range(2):
        left, right = (builder.sext(_lanes(builder, value, 2, j), wide) for value in (a, b))
        products.append(builder.mul(left, right))
    return builder.add(*products)


def emulate(path: str) -> None:
    """Make this process run the kernels of a path; to be called before a kernel module is imported.

    The machine code is of no use to others and kept for this process only.
    """
    os.environ["LLORCH_CACHE_DIR"] = tempfile.mkdtemp()
    os.environ["TEST_EMULATED_CPU"] = path
    os.environ.pop("LLORCH_CPU", None)
    from llorch.kernels import paths
    from llorch.kernels.emit import values

    chosen = paths.KERNEL_PATHS[path]
    paths.chosen = lambda: chosen  # type: ignore[assignment]
    real = values.call

    def call(builder: Any, name: str, result: Any, args: Any) -> Any:
        emulated: dict[str, Callable[..., Any]] = {
            "llvm.x86.avx512.vpdpbusd.512": _add_quads,
            "llvm.x86.avx512.vpdpbusd.256": _add_quads,
            "llvm.x86.avx512.pmaddw.d.512": _add_pairs,
            "llvm.aarch64.neon.sdot.v4i32.v16i8": _sdot,
            "llvm.aarch64.neon.smmla.v4i32.v16i8": _smmla,
            "llvm.aarch64.neon.tbl1.v16i8": _tbl1,
        }
        if name in emulated:
            return emulated[name](builder, *args)
        if name == "llvm.x86.avx512.pshuf.b.512":
            halves = []
            for first in (0, 32):
                mask = ir.Constant(ir.VectorType(I32, 32), list(range(first, first + 32)))
                parts = [builder.shuffle_vector(arg, arg, mask) for arg in args]
                halves.append(real(builder, "llvm.x86.avx2.pshuf.b", parts[0].type, parts))
            both = ir.Constant(ir.VectorType(I32, 64), list(range(64)))
            return builder.shuffle_vector(*halves, both)
        if name.startswith(("llvm.x86.tile", "llvm.x86.tdp", "llvm.x86.ldtile")):
            return _call_amx(builder, name.removeprefix("llvm.x86."), list(args))
        return real(builder, name, result, args)

    values.call = call


if __name__ == "__main__":
    emulate(sys.argv[1])
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
