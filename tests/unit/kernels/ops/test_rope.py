"""RoPE against the table's own cosines and sines, and against float64 complex rotations."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import kernel_calls, naive, naive_rows

ABSOLUTE = 1e-6
"""Two float32 products and a sum of numbers around 1, and the table's rounding."""


def table_of(n_positions: int, n_rot: int, base: float = 10000.0) -> np.ndarray:
    angles = np.arange(n_positions)[:, None] * base ** (-np.arange(0, n_rot, 2) / n_rot)
    return np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)


def test_pairs_are_neighbours_worked_out_by_hand() -> None:
    """A quarter turn of (1, 2) is (-2, 1); the second pair turns by half."""
    table = np.array([[[0, 1], [-1, 0]]], np.float32)
    x = np.array([[[1, 2, 3, 4]]], np.float32)
    assert kernel_calls.rope(x, 4, table, [0]).tolist() == [[[-2, 1, -3, -4]]]


@pytest.mark.parametrize(
    ("n_head", "head_dim", "n_rot"), [(1, 2, 2), (8, 8, 8), (3, 48, 48), (4, 64, 32), (2, 7, 6)]
)
def test_heads_are_rotated_like_complex_numbers(n_head: int, head_dim: int, n_rot: int) -> None:
    rng = np.random.default_rng(head_dim)
    positions = [0, 5, 3, 40, 1]
    x = rng.standard_normal((5, n_head, head_dim)).astype(np.float32)
    out = kernel_calls.rope(x, n_rot, table_of(41, n_rot), positions, n_threads=2)
    expected = naive.rotate(x.astype(np.float64), np.array(positions), n_rot, 10000.0)
    np.testing.assert_allclose(out, expected, atol=ABSOLUTE)
    np.testing.assert_array_equal(out[:, :, n_rot:], x[:, :, n_rot:])
    np.testing.assert_array_equal(out[0], x[0])


@pytest.mark.parametrize(
    ("n_head", "head_dim", "n_rot"), [(9, 64, 64), (3, 48, 48), (2, 40, 40), (4, 64, 32), (2, 7, 6)]
)
def test_heads_equal_the_twin_bit_for_bit(n_head: int, head_dim: int, n_rot: int) -> None:
    rng = np.random.default_rng(n_rot)
    x = (
        rng.standard_normal((5, n_head, head_dim)) * 10.0 ** rng.integers(-20, 20, (5, n_head, head_dim))
    ).astype(np.float32)
    table = rng.standard_normal((41, n_rot // 2, 2)).astype(np.float32)
    positions = [40, 0, 3, 17, 1]
    out = kernel_calls.rope(x, n_rot, table, positions, n_threads=2)
    np.testing.assert_array_equal(naive.bits(out), naive.bits(naive_rows.rotate(x, table, positions)))
