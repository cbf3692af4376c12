"""The tile unit of AMX: the shapes of its registers, opening and closing it, one product at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llorch.kernels import paths
from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.values import I8, I64, VOID, Int, call
from llorch.kernels.layout import TILE_ROWS

MANY_TOKENS, FEW_TOKENS = 16, 8
"""Tokens of one AMX product: of a prompt's, and of a few sequences that decode together."""

HAS_AMX = paths.path() == "amx"
"""Whether this path uses AMX. On the others the functions below emit nothing and must not be reached."""

SUMS, LAST_SUMS, TOKENS, WEIGHTS = (0, 1), 2, (4, 6), (5, 7)
"""AMX registers: C, C of an odd last block, A and B, each for the two blocks of a pair."""

SUM_BYTES = TILE_ROWS * 4


def _register(number: int) -> Any:
    return ir.Constant(I8, number)


def config_bytes(n_tokens: int, depth: int) -> bytearray:
    """What `ldtilecfg` reads: palette 1, then bytes per row (uint16, from 16) and rows (from 48) per register."""
    config = bytearray(64)
    config[0] = 1
    shapes = dict.fromkeys((*SUMS, LAST_SUMS), (n_tokens, SUM_BYTES))
    shapes |= dict.fromkeys(TOKENS, (n_tokens, depth)) | dict.fromkeys(WEIGHTS, (depth // 4, SUM_BYTES))
    for register, (rows, row_bytes) in shapes.items():
        config[16 + 2 * register] = row_bytes
        config[48 + register] = rows
    return config


def make_open(n_tokens: int, depth: int) -> Any:
    """A function for kernels that configures the registers for products of `n_tokens` rows, `depth` columns deep."""

    @emitted(types.void())
    def open_registers(builder: Any) -> None:
        """For this thread; until `close_amx`, switching threads costs 8 KB more."""
        if HAS_AMX:
            name = f"llorch_tile_config_{n_tokens}x{depth}"
            config = builder.module.globals.get(name)
            if config is None:
                value = ir.Constant(ir.ArrayType(I8, 64), config_bytes(n_tokens, depth))
                config = ir.GlobalVariable(builder.module, value.type, name)
                config.initializer, config.global_constant = value, True
                config.linkage, config.align = "internal", 64
            call(builder, "llvm.x86.ldtilecfg", VOID, [builder.bitcast(config, I8.as_pointer())])

    return open_registers


@emitted(types.void())
def close_amx(builder: Any) -> None:
    """Give the AMX registers back."""
    if HAS_AMX:
        call(builder, "llvm.x86.tilerelease", VOID, [])


def clear_sums(builder: Any, sums: int) -> None:
    """Set C register `sums` to 0."""
    call(builder, "llvm.x86.tilezero", VOID, [_register(sums)])


def start_product(
    builder: Any, q: Int, q_stride: Int, weights: Int, half: int, sums: int, *, is_first: bool = True
) -> None:
    """Start a product: tokens at `q`, 16 rows at `weights`, with A and B of `half`, into C register `sums`; it is added
    to what is there if it is not the first.
    """
    a, b, c = _register(TOKENS[half]), _register(WEIGHTS[half]), _register(sums)
    call(builder, "llvm.x86.tileloadd64", VOID, [a, q.pointer(I8), q_stride.value])
    call(builder, "llvm.x86.tileloadd64", VOID, [b, weights.pointer(I8), ir.Constant(I64, SUM_BYTES)])
    if is_first:
        clear_sums(builder, sums)
    call(builder, "llvm.x86.tdpbssd", VOID, [c, a, b])


def store_sums(builder: Any, sums: int, at: Int) -> Int:
    """Write C register `sums`, int32 (tokens, 16 rows), to an address; returns it."""
    arguments = [_register(sums), at.pointer(I8), ir.Constant(I64, SUM_BYTES)]
    call(builder, "llvm.x86.tilestored64", VOID, arguments)
    return at
