"""Programs: what an instruction says about the product that comes after it."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.kernels.buffers import Activation, Rows
from llorch.kernels.ops.matmul import matmul
from llorch.kernels.ops.norm import norm
from llorch.kernels.program import FIRST_OPERAND, NEXT_TILE_STRIDE, NEXT_TILES, RECORD, Program, operands
from llorch.kernels.weights.format import Matrix
from llorch.quant.types import Q8_0
from tests.support.kernel_calls import activation_of, place, tensor_of

N = 64


def _matrix(*, packed: bool) -> Matrix:
    values = np.random.default_rng(0).standard_normal((N, N), np.float32)
    return place(tensor_of(values, Q8_0), packed=packed)


def test_a_product_knows_the_tiles_of_the_next_one_and_the_last_those_of_the_next_step() -> None:
    first, mapped, last = _matrix(packed=True), _matrix(packed=False), _matrix(packed=True)
    form = first.format.activation
    assert form is not None
    x = activation_of(np.ones((1, N), np.float32), form)
    out = Rows.empty(1, N)
    program = Program()
    for matrix in (first, mapped, last):
        norm(program, 0, out, np.ones(N, np.float32), 1e-5, Activation(out))
        matmul(program, "product", 0, matrix, x, out)
    following = program.records()[1::2, [NEXT_TILES, NEXT_TILE_STRIDE]].tolist()
    assert following == [[0, 0], [last.address, last.tile_stride], [first.address, first.tile_stride]]
    assert not program.records()[::2, NEXT_TILES:].any()  # nothing but products asks for tiles


def test_operands_leave_room_for_the_next_product() -> None:
    most = RECORD - FIRST_OPERAND - 2
    assert NEXT_TILES not in operands(most)
    with pytest.raises(ValueError, match=f"holds {most} operands, {most + 1} are wanted"):
        operands(most + 1)
