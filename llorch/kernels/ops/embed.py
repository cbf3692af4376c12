"""Embedding: ``out[r] = table[token_id[r]]`` as float32. Each weight format has a runner of its own."""

from __future__ import annotations

from typing import Any

from llorch.kernels import step as st
from llorch.kernels.buffers import Rows
from llorch.kernels.emit.scalars import as_int32
from llorch.kernels.jit import Unit, operation
from llorch.kernels.ops.shares import share_of
from llorch.kernels.program import Program, operands
from llorch.kernels.weights.format import Matrix

TABLE, N, ROW_BYTES, OUT, OUT_STRIDE, ROW_SCALES = operands(6)
"""ROW_SCALES, for formats whose rows have factors apart (`weights.format.Matrix`)."""


def embed(program: Program, table: Matrix, out: Rows) -> None:
    """Write ``out = table[token_ids]``.

    Args:
        program: gets the instruction.
        table: (n_vocab, n), rows as in the file.
        out: float32 (n_rows, n).
    """
    values = {
        TABLE: table.address,
        N: table.n_in,
        ROW_BYTES: table.format.quant.row_bytes(table.n_in),
        OUT: out.address,
        OUT_STRIDE: out.stride,
        ROW_SCALES: table.row_scales,
    }
    program.add(table.format.embed, "embed", -1, values, keep=(table, out))


def make_embed(name: str, embed_row: Any) -> Unit:
    """The runner of a format whose ``embed_row(source, n, out)`` makes `n` float32 of a row at `source`."""

    @operation(f"{name} embedding", name=f"embed_{name.lower()}")
    def run(o, s, n_rows, ith, nth, counter, scratch):
        """table: (n_vocab, n) of the format. token_ids: int32 (n_rows,). out: float32 (n_rows, n)."""
        token_ids = as_int32(s[st.TOKEN_IDS])
        first, last = share_of(n_rows, ith, nth)
        for row in range(first, last):
            embed_row(o[TABLE] + token_ids[row] * o[ROW_BYTES], o[N], o[OUT] + row * o[OUT_STRIDE])

    return run
