"""Attention over KV blocks against float64, for every head layout, cache type and block boundary."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from llorch.kernels.layout import padded_head_dim
from tests.support.attention_cases import ABSOLUTE, Sequences, rows_of
from tests.support.naive import bits

KV_TYPES = pytest.mark.parametrize("kv_type", ["f32", "f16"])


def test_two_positions_worked_out_by_hand() -> None:
    """Scores 0 and ln 3 (times sqrt of 4) weigh 1/4 and 3/4."""
    s = Sequences([2], 1, 1, 4, "f32")
    s.q[0][1], s.k[0][:] = [2 * np.log(3), 0, 0, 0], [[[0, 1, 0, 0]], [[1, 0, 0, 0]]]
    s.v[0][:] = [[[4, 0, 8, -4]], [[0, 4, 8, 4]]]
    out = s.attend(rows_of(0, 0, 2))
    np.testing.assert_allclose(out[:, 0], [[4, 0, 8, -4], [1, 3, 8, 2]], rtol=1e-6)


@KV_TYPES
@pytest.mark.parametrize("n_rep", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("head_dim", [8, 16, 48, 64, 80, 128])
def test_every_head_layout_equals_float64(head_dim: int, n_rep: int, kv_type: str) -> None:
    s = Sequences([37], 2 * n_rep, 2, head_dim, kv_type)
    out = s.attend(rows_of(0, 0, 37), n_threads=2)
    np.testing.assert_allclose(out, s.expected(0), atol=ABSOLUTE)


@KV_TYPES
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130])
def test_every_block_boundary_equals_float64_for_prompts_and_single_steps(n: int, kv_type: str) -> None:
    s = Sequences([n], 6, 2, 16, kv_type)
    prompt = s.attend(rows_of(0, 0, n), n_threads=2)
    np.testing.assert_allclose(prompt, s.expected(0), atol=ABSOLUTE)
    other = Sequences([n], 6, 2, 16, kv_type)
    steps = np.concatenate([other.attend(rows_of(0, i, i + 1)) for i in range(n)])
    np.testing.assert_array_equal(bits(steps), bits(prompt))


@KV_TYPES
def test_sequences_side_by_side_do_not_see_each_other(kv_type: str) -> None:
    """Prompt chunks and single steps of five sequences in one batch, interleaved row by row too."""
    lengths = [40, 3, 33, 70, 1]
    alone = Sequences(lengths, 4, 2, 32, kv_type)
    expected = [np.asarray(alone.attend(rows_of(i, 0, n))) for i, n in enumerate(lengths)]
    for i in range(5):
        np.testing.assert_allclose(expected[i], alone.expected(i), atol=ABSOLUTE)
    together = Sequences(lengths, 4, 2, 32, kv_type)
    first = [rows_of(0, 0, 39), rows_of(2, 0, 20), rows_of(3, 0, 69)]
    then = [rows_of(0, 39, 40), rows_of(1, 0, 3), rows_of(3, 69, 70), rows_of(4, 0, 1), rows_of(2, 20, 33)]
    interleaved = sorted(rows_of(1, 0, 3) + rows_of(2, 20, 33), key=lambda row: (row[1] % 7, row[1]))
    interleaved = sorted(interleaved, key=lambda row: row[1] % 16)  # each sequence stays in order
    for batch in (list(chain(*first)), list(chain(*then)), interleaved):
        out = together.attend(batch, n_threads=3)
        for row, (sequence, position) in zip(out, batch, strict=True):
            np.testing.assert_array_equal(bits(row), bits(expected[sequence][position]))


@KV_TYPES
def test_the_cache_holds_the_rows_and_nothing_else_is_written(kv_type: str) -> None:
    s = Sequences([33, 5], 2, 2, 24, kv_type)
    s.attend(rows_of(0, 0, 33) + rows_of(1, 0, 5))
    dtype = s.cache.keys.dtype
    written_keys, written_values = np.zeros(s.cache.keys.shape, bool), np.zeros(s.cache.values.shape, bool)
    for sequence, position in rows_of(0, 0, 33) + rows_of(1, 0, 5):
        block, inside = s.tables[sequence, position // 32], position % 32
        at_key = (1, block, slice(None), slice(None), inside)
        at_value = (1, block, slice(None), inside, slice(0, 24))
        np.testing.assert_array_equal(s.cache.keys[at_key], s.k[sequence][position].astype(dtype))
        np.testing.assert_array_equal(s.cache.values[at_value], s.v[sequence][position].astype(dtype))
        written_keys[at_key] = written_values[at_value] = True
    assert np.isnan(s.cache.keys[~written_keys]).all()
    assert np.isnan(s.cache.values[~written_values]).all()
    assert s.cache.values.shape[-1] == padded_head_dim(24) == 32


def test_huge_scores_neither_overflow_nor_lose_the_winner() -> None:
    s = Sequences([70], 1, 1, 16, "f32")
    for array in (s.q[0], s.k[0]):
        array *= 1e4
    out = s.attend(rows_of(0, 0, 70))
    np.testing.assert_allclose(out, s.expected(0), atol=ABSOLUTE)


@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_a_value_that_is_no_number_reaches_only_rows_that_see_it(which: str) -> None:
    healthy = Sequences([50, 9], 2, 1, 16, "f32")
    expected = healthy.attend(rows_of(0, 0, 50) + rows_of(1, 0, 9))
    s = Sequences([50, 9], 2, 1, 16, "f32")
    getattr(s, which)[0][20, 0, 3] = np.nan
    out = s.attend(rows_of(0, 0, 50) + rows_of(1, 0, 9))
    np.testing.assert_array_equal(bits(out[:20]), bits(expected[:20]))
    np.testing.assert_array_equal(bits(out[50:]), bits(expected[50:]))
    assert np.isnan(out[20]).any()
    if which == "q":
        np.testing.assert_array_equal(bits(out[21:50]), bits(expected[21:50]))
    else:
        assert np.isnan(out[21:50]).any(axis=(1, 2)).all()
