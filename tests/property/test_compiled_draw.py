"""The compiled steps from logits to a token find the candidates and the token that NumPy's functions find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llorch.engine.compiled_draw import CompiledDraw, _room
from llorch.engine.narrowing import Candidates, draw, narrowed
from llorch.engine.params import GREEDY_BELOW, SamplingParams
from llorch.kernels.candidates import MORE_SORTED

LARGEST = float(np.finfo(np.float32).max)
POINTS = (0.0, 0.25, 0.5, 1 - 2**-20, 1 - 2**-53)

logit = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, LARGEST, -LARGEST, -math.inf]),
    st.floats(-30, 30, width=32),
    st.floats(-LARGEST, LARGEST, width=32),
)
parameters = st.builds(
    SamplingParams,
    temperature=st.one_of(st.sampled_from([GREEDY_BELOW, 1.1e-6, 1.0, 2.0]), st.floats(GREEDY_BELOW, 2)),
    top_k=st.one_of(st.sampled_from([0, 1, 2, 40]), st.integers(0, 300)),
    top_p=st.one_of(st.sampled_from([0.0, 5e-324, 1 - 1e-8, 1.0]), st.floats(0, 1)),
    min_p=st.one_of(st.sampled_from([0.0, 5e-324, 1e-45, 1.0]), st.floats(0, 1)),
)


@np.errstate(all="ignore")
def assert_equal(logits: NDArray[np.float32], params: SamplingParams) -> int:
    """Returns the number of candidates; below 0 where the compiled steps left them to NumPy."""
    n = CompiledDraw(params).narrow(logits)
    if n <= 0:
        return n
    expected = narrowed(Candidates.from_logits(logits), params)
    np.testing.assert_array_equal(_room._ids[:n], expected.token_ids)
    # Equal numbers are equal bits, but for the sign of 0, of which the exponential is 1.
    np.testing.assert_array_equal(_room.differences[:n], expected.logits - expected.logits.max())
    for point in POINTS:
        assert CompiledDraw(params).pick(n, point) == draw(expected, point)
    return n


@settings(max_examples=300)
@given(st.lists(logit, min_size=1, max_size=200).filter(lambda row: max(row) > -math.inf), parameters)
def test_any_logits_and_any_parameters(row: list[float], params: SamplingParams) -> None:
    assert assert_equal(np.array(row, np.float32), params) > 0


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([512, 5_000, 49_152]), st.sampled_from([0.5, 2, 6]), parameters)
def test_vocabularies_of_normally_distributed_logits(
    seed: int, n_vocab: int, spread: float, params: SamplingParams
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(n_vocab) * spread).astype(np.float32)
    if seed % 3 == 0:
        logits = logits.round(1)  # many are equal, also at the edges
    assert_equal(logits, params)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 127, 128, 129, 136, 255, 256, 257, 1000, 511, 512, 513, 20_001])
def test_probabilities_are_summed_in_the_order_of_numpy(n: int) -> None:
    """Weights of very different sizes: another order gives another sum, and then another top-p."""
    logits = (np.random.default_rng(n).standard_normal(n) * 4).astype(np.float32)
    weights = np.exp(logits - logits.max())
    sums = np.cumsum(np.sort(weights / weights.sum())[::-1], dtype=np.float32)
    for i in np.linspace(0, n - 1, 30).astype(int):
        for p in (sums[i], np.nextafter(sums[i], np.float32(2))):  # exactly reached, and just not
            params = SamplingParams(temperature=1, top_k=0, top_p=min(float(p), 1.0), min_p=0)
            assert assert_equal(logits, params) > 0


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 1.0])
def test_flat_distributions_have_many_candidates(p: float) -> None:
    logits = (np.random.default_rng(0).standard_normal(20 * MORE_SORTED) * 0.01).astype(np.float32)
    n = assert_equal(logits, SamplingParams(temperature=1, top_k=0, top_p=p, min_p=0))
    assert abs(n / len(logits) - p) < 0.02


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 63, 64, 99])
def test_unusable_logits_are_refused(bad: float, at: int) -> None:
    logits = np.full(100, -math.inf, np.float32)
    assert CompiledDraw(SamplingParams()).narrow(logits) < 0
    logits[50] = 1
    logits[at] = bad
    if math.isnan(bad):
        logits.view(np.int32)[at] ^= np.int32(-0x80000000) * (math.copysign(1, bad) < 0)
    assert CompiledDraw(SamplingParams()).narrow(logits) < 0


def test_logits_that_do_not_lie_together_are_left_to_numpy() -> None:
    assert CompiledDraw(SamplingParams()).narrow(np.zeros((8, 2), np.float32)[:, 0]) < 0
