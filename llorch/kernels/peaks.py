"""The most that a core can do in a second: loops that only read, or only multiply and add.

Sums stay in registers, and so many are independent that none waits for the one before. Every turn takes one operand
from the first cache, at another address than the turn before: a compiler cannot move the products out of the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from llorch.kernels.emit.functions import emitted, outlined
from llorch.kernels.emit.values import (
    F32,
    I8,
    I32,
    VOID,
    Int,
    call,
    constant,
    fma,
    load,
    loop,
    prefetch,
    store,
    vector,
)
from llorch.kernels.jit import unit
from llorch.kernels.layout import FLOAT_LANES
from llorch.kernels.tiles.amx_registers import HAS_AMX, MANY_TOKENS, close_amx, make_open
from llorch.kernels.tiles.integers import BYTES, LANES, MACS_A_LANE, PATH, SUMS, WORDS, add_quad
from llorch.kernels.weights.float_dots import BF16_STEP, add_products

_AHEAD_BYTES = 4096
"""Prefetch distance."""

OPERAND_BYTES = 8 << 10
"""Of the buffer that the multiplying units take, twice as much as a turn reaches."""

LINE = 64
_N_SUMS = {"generic": 5, "neon": 16, "i8mm": 16}.get(PATH.dot, 10)
_AMX_SUMS, _AMX_TOKENS, _AMX_WEIGHTS, _AMX_DEPTH = (0, 1, 2), 4, 5, 64

INTEGER_MACS = len(_AMX_SUMS) * MANY_TOKENS * 16 * _AMX_DEPTH if HAS_AMX else _N_SUMS * LANES * MACS_A_LANE
FLOAT_MACS = _N_SUMS * LANES
BFLOAT_MACS = 2 * _N_SUMS * FLOAT_LANES
"""Multiply-adds of a turn."""

READ_BYTES = 16 * LINE
"""Read in a turn."""

_FLOATS = vector(F32, LANES)


def _sum_up(n_turns: Int, operands: Int, n: int, zero: Any, add: Callable[[Any, Int], Any]) -> None:
    """Add to `n` sums again and again, and store them where nobody looks, so that they must be computed."""

    def body(i: Int, sums: list[Any]) -> list[Any]:
        at = operands + (i & (OPERAND_BYTES // 2 // LINE - 1)) * LINE
        return [add(total, at + k * LINE) for k, total in enumerate(sums)]

    for k, total in enumerate(loop(n_turns, [zero] * n, body)):
        store(total, operands, OPERAND_BYTES // 2 + k * LINE)


def _emit_integers(builder: Any, operands: Int, n_turns: Int) -> None:
    weights = load(BYTES, operands)
    zero = constant(WORDS.element, LANES * 2, 0) if PATH.dot == "avx2" else constant(I32, LANES, 0)
    _sum_up(
        n_turns, operands, _N_SUMS, zero, lambda acc, at: add_quad(builder, acc, weights, load(BYTES, at))
    )


def _emit_amx(builder: Any, operands: Int, n_turns: Int) -> None:
    registers = [ir.Constant(I8, i) for i in (*_AMX_SUMS, _AMX_TOKENS, _AMX_WEIGHTS)]
    for register in registers:
        call(builder, "llvm.x86.tilezero", VOID, [register])

    def body(i: Int, _: list[Any]) -> list[Any]:
        for total in registers[: len(_AMX_SUMS)]:
            call(builder, "llvm.x86.tdpbssd", VOID, [total, *registers[len(_AMX_SUMS) :]])
        return []

    loop(n_turns, [], body)


@emitted()
def _multiply_integers(builder: Any, operands: Int, n_turns: Int) -> None:
    outlined("llorch_integer_peak", [operands, n_turns], _emit_amx if HAS_AMX else _emit_integers)


@emitted()
def _multiply_floats(builder: Any, operands: Int, n_turns: Int) -> None:
    factor = load(_FLOATS, operands)
    _sum_up(
        n_turns, operands, _N_SUMS, constant(F32, LANES, 0.0),
        lambda acc, at: fma(builder, load(_FLOATS, at), factor, acc),
    )  # fmt: skip


@emitted()
def _multiply_bfloats(builder: Any, operands: Int, n_turns: Int) -> None:
    weights = BF16_STEP.parts(builder, load(BF16_STEP.raw, operands))

    def add(total: Any, at: Int) -> Any:
        return add_products(builder, weights, BF16_STEP.parts(builder, load(BF16_STEP.raw, at)), total)

    _sum_up(n_turns, operands, _N_SUMS, constant(F32, FLOAT_LANES, 0.0), add)


def _emit_read(builder: Any, address: Int, n_turns: Int, out: Int) -> None:
    def body(i: Int, sums: list[Any]) -> list[Any]:
        at = address + i * READ_BYTES
        for line in range(0, READ_BYTES, LINE):
            prefetch(at + (_AHEAD_BYTES + line))
        sums = list(sums)
        for k in range(READ_BYTES // 4 // LANES):
            sums[k % 4] = builder.or_(sums[k % 4], load(SUMS, at, k * LANES * 4, align=4))
        return sums

    for k, total in enumerate(loop(n_turns, [constant(I32, LANES, 0)] * 4, body)):
        store(total, out, k * LINE)


@emitted()
def _read(builder: Any, address: Int, n_turns: Int, out: Int) -> None:
    outlined("llorch_read", [address, n_turns, out], _emit_read)


_open_amx = make_open(MANY_TOKENS, _AMX_DEPTH)


@unit("peak of integer products", 2)
def multiply_integers(operands, n_turns):
    """`INTEGER_MACS` multiply-adds a turn, with the instruction of the kernel path; `operands`: `OPERAND_BYTES`."""
    if HAS_AMX:
        _open_amx()
    _multiply_integers(operands, n_turns)
    if HAS_AMX:
        close_amx()
    return 0


@unit("peak of float products", 2)
def multiply_floats(operands, n_turns):
    """`FLOAT_MACS` multiply-adds of float32 a turn; `operands`: address of `OPERAND_BYTES`."""
    _multiply_floats(operands, n_turns)
    return 0


@unit("peak of BF16 products", 2)
def multiply_bfloats(operands, n_turns):
    """`BFLOAT_MACS` multiply-adds of BF16 a turn; `operands`: address of `OPERAND_BYTES`."""
    _multiply_bfloats(operands, n_turns)
    return 0


@unit("peak of reading", 4)
def read_memory(address, n_turns, n_passes, out):
    """Read `n_turns` times `READ_BYTES` from `address` on, `n_passes` times; `out`: four cache lines, written."""
    for _ in range(n_passes):
        _read(address, n_turns, out)
    return 0


UNITS = (multiply_integers, multiply_floats, multiply_bfloats, read_memory)
