"""Cosines and sines: against float64, against llama.cpp's float32 recurrence, and when the table grows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llorch.model.rope_table import RopeTable, rope_table
from tests.support.model_configs import SMALLEST

CONFIG_ROPE = dataclasses.replace(SMALLEST, head_dim=64, n_rot=64, rope_freq_base=10000.0)
ANGLE_RELATIVE = 4e-6
"""32 float32 products, each off by at most 6e-8: what the recurrence costs in the angle."""


def test_small_positions_equal_float64() -> None:
    table = rope_table(CONFIG_ROPE, None, 0, 50).astype(np.float64)
    angles = np.arange(50)[:, None] * 10000.0 ** (-np.arange(0, 64, 2) / 64)
    bound = angles * ANGLE_RELATIVE + 1e-7
    assert (np.abs(table[..., 0] - np.cos(angles)) <= bound).all()
    assert (np.abs(table[..., 1] - np.sin(angles)) <= bound).all()


def test_large_positions_follow_the_float32_recurrence() -> None:
    """Angles are products of float32, rounded each time; a position of 100,000 shows the difference."""
    table = rope_table(CONFIG_ROPE, None, 100_000, 100_001)
    step, theta = np.float32(10000.0 ** (-2.0 / 64)), np.float32(100_000)
    for i in range(32):
        expected = np.cos(float(theta)), np.sin(float(theta))
        np.testing.assert_allclose(table[0, i], expected, atol=1e-7)
        theta = theta * step


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_factors_divide_and_scaling_multiplies_the_angles(scale: float) -> None:
    config = dataclasses.replace(CONFIG_ROPE, rope_freq_scale=scale)
    factors = np.linspace(1, 32, 32).astype(np.float32)
    table = rope_table(config, factors, 0, 20).astype(np.float64)
    angles = np.arange(20)[:, None] * 10000.0 ** (-np.arange(0, 64, 2) / 64) / factors * scale
    np.testing.assert_allclose(table[..., 0], np.cos(angles), atol=1e-5)
    np.testing.assert_allclose(table[..., 1], np.sin(angles), atol=1e-5)


@pytest.mark.parametrize(("factor", "attn_factor"), [(4.0, 1.0), (16.0, 0.8)])
def test_yarn_keeps_fast_pairs_and_shrinks_slow_ones(factor: float, attn_factor: float) -> None:
    """Of 1024 original positions pair 5 turns 38 times and pair 18 less than once, worked out by hand."""
    config = dataclasses.replace(
        CONFIG_ROPE, rope_freq_scale=1 / factor, rope_attn_factor=attn_factor, n_ctx_orig_yarn=1024
    )
    table = rope_table(config, None, 0, 200).astype(np.float64)
    plain = rope_table(CONFIG_ROPE, None, 0, 200).astype(np.float64)
    linear = rope_table(dataclasses.replace(CONFIG_ROPE, rope_freq_scale=1 / factor), None, 0, 200)
    magnitude = attn_factor * (1 + 0.1 * np.log(factor))
    np.testing.assert_allclose(table[:, :6], magnitude * plain[:, :6], atol=1e-5)
    np.testing.assert_allclose(table[:, 18:], magnitude * linear[:, 18:].astype(np.float64), atol=1e-5)
    np.testing.assert_allclose(np.hypot(table[..., 0], table[..., 1]), magnitude, rtol=1e-6)
    turned = np.unwrap(np.arctan2(table[..., 1], table[..., 0]), axis=0)[-1] / 199
    frequencies = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    assert (turned[6:18] < frequencies[6:18]).all()
    assert (turned[6:18] > frequencies[6:18] / factor).all()


def test_a_table_that_grows_keeps_what_it_had() -> None:
    table = RopeTable(CONFIG_ROPE, None)
    table.ensure(10)
    before = table.values.copy()
    table.ensure(len(before))
    assert len(table.values) == len(before)
    table.ensure(len(before) + 1)
    np.testing.assert_array_equal(table.values[: len(before)], before)
    np.testing.assert_array_equal(table.values, rope_table(CONFIG_ROPE, None, 0, len(table.values)))
