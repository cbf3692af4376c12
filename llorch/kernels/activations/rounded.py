"""Activations rounded to float16 or bfloat16, as llama.cpp does before weights of those types.

Those for float16 are kept as float32, which costs a product less than widening them; those for bfloat16 as its bits,
which products multiply in pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import uint16, uint32

from llorch.kernels.buffers import ActivationForm, Rows
from llorch.kernels.convert import round_to_bfloat, round_to_half
from llorch.kernels.emit.scalars import as_float32, as_int64, as_uint16, bits_of_float32
from llorch.kernels.jit import inlined, unit
from llorch.kernels.layout import FLOAT_LANES, round_up
from llorch.machine.memory import aligned_rows

VALUES, VALUE_STRIDE = range(1, 3)
"""Places in the form's table, and in that of float32 rows: float32, for bfloat16 uint16 (n_rows, n), padded to whole
cache lines, and its row stride."""


@inlined
def _bfloat_bits(x):
    return uint16(uint32(bits_of_float32(round_to_bfloat(x))) >> uint32(16))


def _make_fill(name: str, pointer: Any, item: int, stored: Any) -> Any:
    @unit(f"rounding activations to {name}", 5, name=f"fill_{name.lower()}")
    def fill(table, x, row, start, n):
        """Columns ``start <= i < start + n`` of a row: float32 at `x`, into the buffer of `table`."""
        t = as_int64(table)
        source = as_float32(x)
        out = pointer(t[VALUES] + row * t[VALUE_STRIDE] + start * item)
        for i in range(n):
            out[i] = stored(source[i])

    return fill


def _floats(n_rows: int, n: int) -> list[np.ndarray]:
    return [Rows.empty(n_rows, n).data]


def _pairs(n_rows: int, n: int) -> list[np.ndarray]:
    return [aligned_rows(n_rows, round_up(n, 2 * FLOAT_LANES), np.uint16)]


F16 = ActivationForm("F16", _floats, _make_fill("F16", as_float32, 4, round_to_half))
BF16 = ActivationForm("BF16", _pairs, _make_fill("BF16", as_uint16, 2, _bfloat_bits))
