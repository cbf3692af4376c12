"""LLVM values with Python's arithmetic, and the pieces every emitter needs: vectors, loads, stores, loops, calls.

Vectors cannot cross the boundary of a Numba intrinsic, so whole inner loops are emitted as LLVM IR. Addresses, strides
and counts are `Int`: ``q + block * 32`` emits the two instructions it says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
VOID = ir.VoidType()


class Int:
    """An int64 in a function under construction: a number, a stride or an address."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = ir.Constant(I64, value) if isinstance(value, int) else value

    def _of(self, other: Int | int) -> Any:
        return other.value if isinstance(other, Int) else ir.Constant(I64, other)

    def __add__(self, other: Int | int) -> Int:
        if isinstance(other, int) and not other:
            return self
        return Int(self.builder, self.builder.add(self.value, self._of(other)))

    def __sub__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.sub(self.value, self._of(other)))

    def __mul__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.mul(self.value, self._of(other)))

    def __and__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.and_(self.value, self._of(other)))

    def __rshift__(self, other: Int | int) -> Int:
        return Int(self.builder, self.builder.lshr(self.value, self._of(other)))

    def __lt__(self, other: Int | int) -> Any:
        """Whether it is less, both signed: an LLVM i1."""
        return self.builder.icmp_signed("<", self.value, self._of(other))

    def is_below(self, other: Int | int) -> Any:
        """Whether it is less, both unsigned, as addresses are: an LLVM i1."""
        return self.builder.icmp_unsigned("<", self.value, self._of(other))

    def equals(self, other: Int | int) -> Any:
        """Whether both are the same: an LLVM i1."""
        return self.builder.icmp_signed("==", self.value, self._of(other))

    def is_set(self) -> Any:
        """Whether it is not 0: an LLVM i1."""
        return self.builder.icmp_signed("!=", self.value, ir.Constant(I64, 0))

    def pointer(self, type_: Any) -> Any:
        """The address as a pointer to `type_`."""
        return self.builder.inttoptr(self.value, type_.as_pointer())


class Strided:
    """Addresses of equal rows: ``rows[i]`` is where row `i` begins, `i` a Python number."""

    __slots__ = ("base", "stride")

    def __init__(self, base: Int, stride: Int | int) -> None:
        self.base, self.stride = base, stride

    def __getitem__(self, i: int) -> Int:
        return self.base + self.stride * i


def choose(condition: Any, a: Int, b: Int) -> Int:
    """`a` where the i1 `condition` holds, else `b`."""
    return Int(a.builder, a.builder.select(condition, a.value, b.value))


def vector(element: Any, n: int) -> Any:
    """LLVM's type ``<n x element>``."""
    return ir.VectorType(element, n)


def splat(builder: Any, value: Any, n: int) -> Any:
    """A vector of `n` copies of a scalar."""
    undefined = ir.Constant(vector(value.type, n), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(vector(I32, n), [0] * n))


def shuffle(builder: Any, a: Any, b: Any, places: Sequence[int]) -> Any:
    """The elements of `a` and then `b` at `places`, as one vector."""
    return builder.shuffle_vector(a, b, ir.Constant(vector(I32, len(places)), list(places)))


def constant(element: Any, n: int, value: float) -> Any:
    """A constant vector of `n` equal elements."""
    return ir.Constant(vector(element, n), [value] * n)


def load(type_: Any, address: Int, offset: int = 0, align: int = 1) -> Any:
    """Load a value of `type_` from `address` plus a constant byte offset."""
    at = address + offset
    result = at.builder.load(at.pointer(type_))
    result.align = align
    return result


def store(value: Any, address: Int, offset: int = 0, align: int = 1) -> None:
    """Store `value` at `address` plus a constant byte offset."""
    at = address + offset
    at.builder.store(value, at.pointer(value.type), align=align)


def store_or_add(value: Any, address: Int, accumulate: Int) -> None:
    """Store floats at `address`, or add them to the floats there if `accumulate` is not 0."""
    builder = address.builder
    with builder.if_else(accumulate.is_set()) as (add, plain):
        with add:
            store(builder.fadd(value, load(value.type, address, align=4)), address, align=4)
        with plain:
            store(value, address, align=4)


def call(builder: Any, name: str, result: Any, args: Sequence[Any]) -> Any:
    """Call the LLVM intrinsic (or C function) `name`."""
    function_type = ir.FunctionType(result, [a.type for a in args])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, args)


def prefetch(address: Int, *, for_writing: bool = False, level: int = 1) -> None:
    """Ask for the cache line at `address`, to be brought into the cache of `level` 1 or 2; never faults."""
    hints = (ir.Constant(I32, k) for k in (int(for_writing), 4 - level, 1))
    call(address.builder, "llvm.prefetch.p0", VOID, [address.pointer(I8), *hints])


def prefetch_bytes(address: Int, n_bytes: int, *, level: int = 1) -> None:
    """`prefetch` for every cache line of the `n_bytes` at `address`."""
    for offset in range(0, n_bytes, 64):
        prefetch(address + offset, level=level)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` with one rounding, scalars or vectors of float32."""
    suffix = "f32" if a.type == F32 else f"v{a.type.count}f32"
    return call(builder, f"llvm.fma.{suffix}", a.type, [a, b, c])


def sum_lanes(builder: Any, value: Any) -> Any:
    """Horizontal sum of a float vector in one fixed order (halves onto each other)."""
    n = value.type.count
    undefined = ir.Constant(value.type, ir.Undefined)
    while n > 1:
        n //= 2
        places = [i + n if i < n else 0 for i in range(value.type.count)]
        value = builder.fadd(value, shuffle(builder, value, undefined, places))
    return builder.extract_element(value, ir.Constant(I32, 0))


def loop(
    n: Int,
    starts: Sequence[Any],
    body: Callable[[Int, list[Any]], Sequence[Any]],
    *,
    at_least_once: bool = False,
) -> list[Any]:
    """Emit ``for i in range(n): values = body(i, values)``; returns the final values.

    Args:
        n: number of turns.
        starts: LLVM values or `Int`; `body` gets and returns as many of the same kinds.
        body: emits one turn.
        at_least_once: `n` > 0 is known, so the test comes after the turn only.
    """
    builder = n.builder
    entry = builder.block
    inner = builder.append_basic_block("inner")
    head = inner if at_least_once else builder.append_basic_block("head")
    done = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(ir.Constant(I64, 0), entry)
    phis = [builder.phi(_raw(start).type) for start in starts]
    for phi, start in zip(phis, starts, strict=True):
        phi.add_incoming(_raw(start), entry)
    values = [Int(builder, phi) if isinstance(s, Int) else phi for phi, s in zip(phis, starts, strict=True)]
    if not at_least_once:
        builder.cbranch(Int(builder, i) < n, inner, done)
        builder.position_at_end(inner)
    after = list(body(Int(builder, i), list(values)))
    following = builder.add(i, ir.Constant(I64, 1))
    for phi, value in zip(phis, after, strict=True):
        phi.add_incoming(_raw(value), builder.block)
    i.add_incoming(following, builder.block)
    if at_least_once:
        builder.cbranch(Int(builder, following) < n, head, done)
        values = after
    else:
        builder.branch(head)
    builder.position_at_end(done)
    return values


def _raw(value: Any) -> Any:
    return value.value if isinstance(value, Int) else value
