"""Addition of rows, and of one vector to every row."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.kernels.ops.add import add, add_bias
from llorch.kernels.program import Program
from tests.support.kernel_calls import SENTINEL, guarded, guarded_rows, run


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n", [1, 16, 37])
def test_a_bias_is_added_to_every_row_and_to_nothing_else(n: int, n_threads: int) -> None:
    rng = np.random.default_rng(n)
    values, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, n), (n,)))
    x, program = guarded_rows(values), Program()
    add_bias(program, 0, guarded(bias), x)
    run(program, 4, n_threads=n_threads)
    np.testing.assert_array_equal(x.view(5), np.concatenate([values[:4] + bias, values[4:]]))
    assert (x.data[:, n:] == SENTINEL).all()


def test_rows_are_added_one_to_one() -> None:
    a, b = (guarded_rows(np.arange(6, dtype=np.float32).reshape(2, 3) * factor) for factor in (1, 10))
    program = Program()
    add(program, 0, a, b, b)
    run(program, 2)
    assert b.view(2).tolist() == [[0, 11, 22], [33, 44, 55]]
