"""Guards of operations on rows, in the first cache: norm, SwiGLU, RoPE and the cache append, activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.activations.q8_0 import Q8_0 as Q8_0_FORM
from llorch.kernels.activations.q8_k import Q8_K as Q8_K_FORM
from llorch.kernels.buffers import Activation, ActivationForm, FormBuffers, Rows
from llorch.kernels.layout import KV_BLOCK_SIZE, round_up
from llorch.kernels.ops.norm import norm
from llorch.kernels.ops.prepare import prepare
from llorch.kernels.ops.store import rope_store
from llorch.kernels.ops.swiglu import swiglu
from llorch.kernels.program import Program
from llorch.machine.memory import aligned_bytes
from tools.performance.guards.attention import HEAD_DIM, KV, step_on
from tools.performance.guards.bench import N_REPEATS, Guard
from tools.performance.products import random_rows, step_of

_N_ROWS, _N_COLUMNS = 32, 2048
_PAGE, _APART = 4096, 1024


class _Arena:
    """Rows at places that are the same in every process.

    Where a load and a store before it have the same last twelve bits of their addresses, the load may wait: with rows
    wherever malloc puts them, a norm was 14 % slower in one process of nine, and so were SwiGLU and activations.

    Each row stands for `_N_ROWS` rows, all of which are it: rows of their own lie in the second cache, where norms took
    between 6.2 and 10 us on a busy machine.
    """

    def __init__(self) -> None:
        self._bytes = aligned_bytes(1 << 18, _PAGE)
        self._end = 0

    def placed(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy of an array."""
        copy = self._bytes[self._end : self._end + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[:] = array
        self._end += round_up(array.nbytes, _PAGE) + _APART
        return copy

    def repeated(self, row: NDArray[Any]) -> NDArray[Any]:
        """A copy of the row (1, ...), as (_N_ROWS, ...)."""
        copy = self.placed(row)
        return np.lib.stride_tricks.as_strided(copy, (_N_ROWS, *row.shape[1:]), (0, *copy.strides[1:]))

    def rows(self, n: int, seed: int = 0) -> Rows:
        """Random rows."""
        return Rows(self.repeated(random_rows(1, n, seed).data), n)

    def activation(self, *forms: ActivationForm) -> Activation:
        """Random rows in some forms."""
        rows = self.rows(_N_COLUMNS)
        return Activation(
            rows,
            [FormBuffers(form, [self.repeated(a) for a in form.allocate(1, _N_COLUMNS)]) for form in forms],
        )


def row_guards() -> Iterator[Guard]:
    """All of them; a value counts as one multiply-add."""
    for name, forms in (("", ()), (" to Q8_0", (Q8_0_FORM,))):
        arena = _Arena()
        x, up = arena.rows(_N_COLUMNS), arena.rows(_N_COLUMNS, 1)
        weight = arena.rows(_N_COLUMNS, 2).data[0]
        out = arena.activation(*forms)
        norms, gates = Program(), Program()
        for _ in range(N_REPEATS):
            norm(norms, 0, x, weight, 1e-5, out)
            swiglu(gates, 0, x, up, out)
        yield _guard("norm" + name, norms)
        yield _guard("SwiGLU" + name, gates)
    for form in (Q8_0_FORM, Q8_K_FORM):
        rows, program = _Arena().activation(form), Program()
        for _ in range(N_REPEATS):
            prepare(program, 0, rows)
        yield _guard(f"activations to {form.name}", program)
    yield _rope_and_store(8, 2)


def _guard(name: str, program: Program) -> Guard:
    return Guard(name, program, step_of(_N_ROWS), _N_ROWS * _N_COLUMNS, "float32")


def _rope_and_store(n_head: int, n_head_kv: int) -> Guard:
    arena = _Arena()
    q, k, v = (arena.rows(n * HEAD_DIM, seed) for seed, n in enumerate((n_head, n_head_kv, n_head_kv)))
    cache = arena.placed(np.zeros((1, 2, n_head_kv * HEAD_DIM * KV_BLOCK_SIZE), KV.dtype))
    positions = np.arange(_N_ROWS, dtype=np.int32) % KV_BLOCK_SIZE
    step, keep = step_on(cache, positions)
    angles = np.outer(np.arange(KV_BLOCK_SIZE), 10000.0 ** (-2.0 * np.arange(HEAD_DIM // 2) / HEAD_DIM))
    table = arena.placed(np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32))
    step[st.ROPE_TABLE] = table.ctypes.data
    program = Program()
    for _ in range(N_REPEATS):
        rope_store(program, 0, q, k, v, n_head, n_head_kv, HEAD_DIM, HEAD_DIM, KV)
    n_values = _N_ROWS * (n_head + 2 * n_head_kv) * HEAD_DIM
    return Guard("RoPE and cache append", program, step, n_values, "float32", keep=(*keep, table))
