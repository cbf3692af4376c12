"""Products with weights of any format, for programs that measure them: random blocks and rows, no file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llorch.kernels import step as st
from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.layout import TILE_ROWS
from llorch.kernels.ops.matmul import matmul
from llorch.kernels.ops.prepare import prepare
from llorch.kernels.program import Program
from llorch.kernels.team import Team
from llorch.kernels.weights.format import Matrix, RowTables, WeightFormat
from llorch.machine.memory import aligned_bytes
from llorch.quant.tensor import Tensor
from llorch.quant.types import I8


def random_matrix(weight_format: WeightFormat, n_out: int, n_in: int) -> Matrix:
    """Packed tiles of random blocks with finite scales, (n_out, n_in); all tiles are one, repeated."""
    quant, tiling = weight_format.quant, weight_format.tiling
    assert tiling is not None
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (TILE_ROWS * n_in // quant.block_size, quant.block_bytes), np.uint8)
    while (bad := ~np.isfinite(quant.scales(blocks.ravel())).all(axis=-1)).any():
        blocks[bad] = rng.integers(0, 256, (int(bad.sum()), quant.block_bytes), np.uint8)
    stride, n_tiles = tiling.tile_bytes(n_in), n_out // TILE_ROWS
    tiles = aligned_bytes(n_tiles * stride)
    scales = np.ones(n_out, np.float32) if quant is I8 else None
    rows = RowTables.of(Tensor("w", quant, (n_out, n_in), blocks.ravel(), row_scales=scales))
    order, _ = rows.addresses
    tiling.pack(int(blocks.ctypes.data), n_in, TILE_ROWS, int(tiles.ctypes.data), stride, 0, 1, order)
    tiles.reshape(n_tiles, stride)[1:] = tiles[:stride]
    return Matrix(weight_format, n_out, n_in, int(tiles.ctypes.data), True, (tiles, rows), *rows.addresses)


def pieces(matrix: Matrix, n_out: int) -> list[Matrix]:
    """The matrix as matrices of `n_out` rows each, which lie one after the other; what is left over at its end is not
    among them. For formats without factors of rows."""
    n_bytes = matrix.format.packed_bytes(n_out, matrix.n_in)
    return [
        replace(matrix, n_out=n_out, address=matrix.address + i * n_bytes)
        for i in range(matrix.n_out // n_out)
    ]


def product(team: Team, matrices: list[Matrix], n_tokens: int) -> Program:
    """Products of some matrices of one shape and format with the same `n_tokens` random tokens, one an instruction."""
    first = matrices[0]
    assert first.format.activation is not None
    x = Activation.empty(n_tokens, first.n_in, [first.format.activation])
    x.rows.data[:] = np.random.default_rng(1).standard_normal(x.rows.data.shape)
    filling, program, out = Program(), Program(), Rows.empty(n_tokens, first.n_out)
    prepare(filling, 0, x)
    team.run(filling.records(), 0, 1, step_of(n_tokens), np.zeros(1, np.int64))
    for matrix in matrices:
        matmul(program, "product", 0, matrix, x, out)
    return program


def step_of(n_rows: int) -> NDArray[np.int64]:
    """A step of `n_rows` rows that needs no cache: int64 (STEP_SIZE,)."""
    step = np.zeros(st.STEP_SIZE, np.int64)
    step[st.N_ROWS] = step[st.N_OUTPUTS] = n_rows
    return step


def random_rows(n_rows: int, n: int, seed: int = 0) -> Rows:
    """Normally distributed rows."""
    rows = Rows.empty(n_rows, n)
    rows.data[:] = np.random.default_rng(seed).standard_normal(rows.data.shape)
    return rows
