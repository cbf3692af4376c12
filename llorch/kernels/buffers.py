"""Buffers of the forward pass: rows of float32, and the other forms in which weights want them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.kernels.jit import Unit
from llorch.kernels.layout import CHUNK, FLOAT_LANES, round_up
from llorch.machine.memory import aligned_rows


@dataclass(slots=True)
class Rows:
    """float32 rows of `n` values, `stride` bytes apart, each in whole cache lines of its own.

    Attributes:
        data: float32 (n_rows, padded n).
        n: values per row in use.
    """

    data: NDArray[np.float32]
    n: int

    @classmethod
    def empty(cls, n_rows: int, n: int) -> Rows:
        """Zeroed rows for up to `n_rows` tokens."""
        return cls(aligned_rows(n_rows, round_up(n, FLOAT_LANES), np.float32), n)

    @property
    def address(self) -> int:
        """Address of the first value."""
        return int(self.data.ctypes.data)

    @property
    def stride(self) -> int:
        """Bytes from one row to the next."""
        return int(self.data.strides[0])

    def view(self, n_rows: int) -> NDArray[np.float32]:
        """The first `n_rows` rows without padding."""
        return self.data[:n_rows, : self.n]


FILL = 0
"""Index of the fill unit's address in the table of a form; addresses and row strides of the buffers follow."""


@dataclass(frozen=True, slots=True, eq=False)
class ActivationForm:
    """What activations become before they meet weights of some format, as llama.cpp has it (its `vec_dot_type`).

    Attributes:
        name: ggml's name of the type.
        allocate: (n_rows, n) to zeroed buffers, each (n_rows, ...).
        fill: unit ``fill(table, x, row, start, n)``: turns columns ``start <= i < start + n`` of row number `row`,
            float32 at address `x`, into the buffers of `table`. `start` is a multiple of `CHUNK`.
        is_whole_row: whether it needs all columns of a row at once.
    """

    name: str
    allocate: Callable[[int, int], Sequence[NDArray[Any]]]
    fill: Unit
    is_whole_row: bool = False


class FormBuffers:
    """The buffers of one activation in one form.

    Attributes:
        form: which.
        arrays: (n_rows, ...) each.
        table: int64 (1 + 2 * n_arrays,), the fill unit's address, then address and row stride of each array.
    """

    def __init__(self, form: ActivationForm, arrays: Sequence[NDArray[Any]]) -> None:
        self.form = form
        self.arrays = tuple(arrays)
        places = [n for array in arrays for n in (int(array.ctypes.data), int(array.strides[0]))]
        self.table = np.array([0, *places], np.int64)


class Activation:
    """Rows, and the forms in which the weights that follow want them.

    Attributes:
        rows: float32.
        forms: buffers of the other forms.
        keeps_rows: whether weights read the rows themselves. Where none does, an operation that fills the forms may
            write every row of a thread's share to the place of the first one, which stays in the core's cache.
    """

    def __init__(self, rows: Rows, forms: Iterable[FormBuffers] = (), *, keeps_rows: bool = True) -> None:
        self.rows = rows
        self.keeps_rows = keeps_rows
        self.forms = {buffers.form: buffers for buffers in forms}
        self._rows_table = np.array([0, rows.address, rows.stride], np.int64)
        tables = [int(buffers.table.ctypes.data) for buffers in self.forms.values()]
        self._tables = np.array([len(tables), *tables], np.int64)

    @classmethod
    def empty(cls, n_rows: int, n: int, forms: Iterable[ActivationForm | None]) -> Activation:
        """Zeroed buffers for up to `n_rows` tokens of `n` values in the given forms, None the rows themselves."""
        wanted = dict.fromkeys(forms)
        buffers = [FormBuffers(form, form.allocate(n_rows, n)) for form in wanted if form is not None]
        return cls(Rows.empty(n_rows, n), buffers, keeps_rows=None in wanted)

    @property
    def tables(self) -> int:
        """Address of int64 (1 + n_forms,): the number of forms, then the address of each form's table."""
        return int(self._tables.ctypes.data)

    @property
    def piece(self) -> int:
        """Columns of a row that no two threads share when it is brought into the forms."""
        return self.rows.n if any(form.is_whole_row for form in self.forms) else CHUNK

    def table(self, form: ActivationForm | None) -> int:
        """Address of the table of `form`; None is the form of float32 weights, the rows themselves.

        Raises:
            ValueError: the activation does not have this form.
        """
        if form is None and not self.keeps_rows:
            raise ValueError("the activation does not keep its rows")
        if form is None:
            return int(self._rows_table.ctypes.data)
        if form not in self.forms:
            raise ValueError(f"the activation lacks the form {form.name}")
        return int(self.forms[form].table.ctypes.data)

    def link(self) -> None:
        """Write the addresses of the fill units into the tables, which compiles those that are not yet."""
        for form, buffers in self.forms.items():
            buffers.table[FILL] = form.fill.address
