"""Filling the other forms of an activation, from inside the operation that has just computed its float32 row."""

from __future__ import annotations

from llorch.kernels.buffers import FILL
from llorch.kernels.emit.functions import call_unit
from llorch.kernels.emit.scalars import as_int64
from llorch.kernels.jit import kernel


@kernel
def fill_forms(tables, x, row, start, n):
    """Bring columns ``start <= i < start + n`` of a row, float32 at address `x`, into every form.

    tables: address of int64 (1 + n_forms,), the number of forms, then the address of each form's table
    (`buffers.Activation.tables`).
    """
    t = as_int64(tables)
    for i in range(1, t[0] + 1):
        call_unit(as_int64(t[i])[FILL], (t[i], x, row, start, n))
