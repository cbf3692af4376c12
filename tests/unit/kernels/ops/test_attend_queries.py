"""Queries that run together: any number of them, made up to whole micro-kernels, gives the bits of each one alone."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba import types
from numpy.typing import NDArray

from llorch.kernels.emit.functions import emitted
from llorch.kernels.emit.softmax import exp_of_difference
from llorch.kernels.emit.values import F32, Int, load, store, vector
from llorch.kernels.layout import ATTENTION_PART, GROUP_ROWS
from llorch.kernels.ops.attend_queries import scratch_bytes
from tests.support.attention_cases import Sequences, rows_of
from tests.support.kernel_calls import exp_array
from tests.support.naive import bits
from tests.support.naive_attention import merge, parts_of


@emitted(types.void(types.int64, types.int64))
def _exponentials(builder: Any, x: Int, out: Int) -> None:
    store(exp_of_difference(builder, load(vector(F32, 16), x, align=4)), out, align=4)


@numba.njit  # type: ignore[untyped-decorator]
def _all_exponentials(x: int, out: int, n: int) -> None:
    for i in range(0, n, 16):
        _exponentials(x + i * 4, out + i * 4)


def test_exponentials_of_differences_have_the_bits_of_the_general_ones() -> None:
    """Every 1021st float32 that is not above 0, both zeros, infinity, and what is no number, of both signs."""
    patterns = np.arange(0x80000000, 0xFF800001, 1021, dtype=np.uint32)
    ends = np.array([0, 0x80000000, 0xC2AEAC4F, 0xC2AEAC50, 0xC2AEAC51, 0xFF800000, 0x7FC00000, 0xFFC00000,
                     0x7FC00123, 0xFFC00123], np.uint32)  # fmt: skip
    words = np.concatenate([patterns[: len(patterns) // 16 * 16], ends, ends[:6]])
    x = words.view(np.float32)
    expected, out = np.empty_like(x), np.empty_like(x)
    exp_array(x, expected)
    _all_exponentials(x.ctypes.data, out.ctypes.data, len(x))
    np.testing.assert_array_equal(bits(out), bits(expected))
    assert (out[:-16] == 0).any()
    assert np.isnan(out).sum() == 4


def _twin(s: Sequences, position: int, head: int, n_rep: int) -> NDArray[np.float32]:
    rounded = (a[0][: position + 1, head // n_rep] for a in (s.k, s.v))
    keys, values = (a.astype(s.cache.keys.dtype).astype(np.float32) for a in rounded)
    return merge(parts_of(s.q[0][position, head], keys, values))


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
@pytest.mark.parametrize(
    ("n_rep", "head_dim"), [(1, 64), (2, 80), (3, 64), (5, 16), (7, 128), (8, 64), (16, 48)]
)
def test_every_number_of_queries_equals_the_slow_twin_bit_for_bit(
    n_rep: int, head_dim: int, kv_type: str
) -> None:
    """Rows on both sides of a part's end, one, two, three and sixteen in a batch."""
    n = ATTENTION_PART + 9
    s = Sequences([n], n_rep, 1, head_dim, kv_type)
    s.attend(rows_of(0, 0, n))
    first = n - GROUP_ROWS
    expected = np.stack([[_twin(s, p, head, n_rep) for head in range(n_rep)] for p in range(first, n)])
    for n_rows in (1, 2, 3, GROUP_ROWS):
        out = s.attend(rows_of(0, n - n_rows, n))
        np.testing.assert_array_equal(bits(out), bits(expected[GROUP_ROWS - n_rows :]))


def test_scratch_grows_with_the_queries_of_a_task() -> None:
    assert scratch_bytes(8, 64) > scratch_bytes(3, 64) >= GROUP_ROWS * 3 * 2 * 64 * 4
