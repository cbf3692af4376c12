"""Attention of random shapes and lengths equals float64, and is the same in one batch and in single steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.attention_cases import ABSOLUTE, Sequences, rows_of
from tests.support.naive import bits


@given(
    n_rep=st.integers(1, 5), n_head_kv=st.integers(1, 3), head_dim=st.integers(1, 70).map(lambda n: 2 * n),
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=3), kv_type=st.sampled_from(["f32", "f16"]),
    n_threads=st.integers(1, 3), seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=40)
def test_attention_equals_float64_and_itself(
    n_rep: int, n_head_kv: int, head_dim: int, lengths: list[int], kv_type: str, n_threads: int, seed: int
) -> None:
    shape = (n_rep * n_head_kv, n_head_kv, head_dim, kv_type, seed)
    s = Sequences(lengths, *shape)
    rows = [row for i, n in enumerate(lengths) for row in rows_of(i, 0, n)]
    out = s.attend(rows, n_threads)
    expected = np.concatenate([s.expected(i) for i in range(len(lengths))])
    np.testing.assert_allclose(out, expected, atol=ABSOLUTE)
    steps = Sequences(lengths, *shape)
    for position in range(max(lengths)):
        now = [(i, position) for i, n in enumerate(lengths) if position < n]
        alone = steps.attend(now, 1)
        np.testing.assert_array_equal(bits(alone), bits(out[[rows.index(row) for row in now]]))
