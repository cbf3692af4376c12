"""Activations rounded to float16 or bfloat16, as llama.cpp does before weights of those types; kept as float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from llorch.kernels.buffers import ActivationForm, Rows
from llorch.kernels.convert import round_to_bfloat, round_to_half
from llorch.kernels.emit.scalars import as_float32, as_int64
from llorch.kernels.jit import Unit, unit

VALUES, VALUE_STRIDE = range(1, 3)
"""Places in the form's table, and in that of float32 rows: float32 (n_rows, n), padded, and its row stride."""


def _make_fill(name: str, rounded: Any) -> Unit:
    @unit(f"rounding activations to {name}", 5, name=f"fill_{name.lower()}")
    def fill(table, x, row, start, n):
        """Columns ``start <= i < start + n`` of a row: float32 at `x`, into the buffer of `table`."""
        t = as_int64(table)
        source = as_float32(x)
        out = as_float32(t[VALUES] + row * t[VALUE_STRIDE] + start * 4)
        for i in range(n):
            out[i] = rounded(source[i])

    return fill


def _allocate(n_rows: int, n: int) -> list[np.ndarray]:
    return [Rows.empty(n_rows, n).data]


F16 = ActivationForm("F16", _allocate, _make_fill("F16", round_to_half))
BF16 = ActivationForm("BF16", _allocate, _make_fill("BF16", round_to_bfloat))
