"""Sampling steps against slow, obvious twins, on any logits."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.engine.narrowing import Candidates, draw, min_p, softmax, top_k, top_p
from llorch.engine.params import SamplingParams
from llorch.engine.sampling import Sampler

logits_lists = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, -1.0, -math.inf]), st.floats(-50, 50, width=32)),
    min_size=1,
    max_size=60,
).filter(lambda values: max(values) > -math.inf)


def ranked(values: list[float]) -> list[int]:
    """Token ids, likeliest first, smaller ids first among equals."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


@given(logits_lists, st.integers(0, 70))
def test_top_k_keeps_the_first_k_of_the_ranking(values: list[float], k: int) -> None:
    kept = top_k(Candidates.from_logits(np.array(values, np.float32)), k)
    assert kept.token_ids.tolist() == sorted(ranked(values)[: k or None])


@given(logits_lists, st.floats(0, 1))
def test_top_p_keeps_the_shortest_prefix_that_reaches_p(values: list[float], p: float) -> None:
    logits = np.array(values, np.float32)
    kept = top_p(Candidates.from_logits(logits), p)
    order = ranked(values)
    n = len(kept.token_ids)
    assert kept.token_ids.tolist() == sorted(order[:n])
    if p >= 1:
        assert n == len(values)
        return
    sums = np.cumsum(softmax(logits)[order], dtype=np.float32)
    assert n == len(values) or sums[n - 1] >= np.float32(p)
    assert n == 1 or sums[n - 2] < np.float32(p)


@given(logits_lists, st.floats(0, 1))
def test_min_p_keeps_the_best_and_all_that_are_near(values: list[float], p: float) -> None:
    logits = np.array(values, np.float32)
    kept = min_p(Candidates.from_logits(logits), p)
    assert ranked(values)[0] in kept.token_ids
    left = np.setdiff1d(np.arange(len(values)), kept.token_ids)
    if len(left):
        assert logits[left].max() < kept.logits.min()


@given(logits_lists, st.floats(0, 1, exclude_max=True))
def test_a_draw_has_a_probability(values: list[float], point: float) -> None:
    logits = np.array(values, np.float32)
    token_id = draw(Candidates.from_logits(logits), point)
    assert softmax(logits)[token_id] > 0


@settings(max_examples=50)
@given(
    st.lists(logits_lists, min_size=1, max_size=5),
    st.integers(0, 2**64 - 1),
    st.floats(0, 2),
    st.integers(0, 10),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.5, 2),
)
def test_the_same_seed_draws_the_same_tokens(
    rows: list[list[float]], seed: int, temperature: float, k: int, p: float, low: float, penalty: float
) -> None:
    params = SamplingParams(temperature=temperature, top_k=k, top_p=p, min_p=low, repetition_penalty=penalty)
    n_vocab = max(map(len, rows))
    logits = [np.array(row + [-math.inf] * (n_vocab - len(row)), np.float32) for row in rows]
    first, second, other = (Sampler(params, s, [0]) for s in (seed, seed, seed ^ 1))
    tokens = []
    for row in logits:
        tokens.append(first.sample(row))
        other.sample(row)  # another sequence beside it changes nothing
    assert [second.sample(row) for row in logits] == tokens
    assert all(row[token] > -math.inf for row, token in zip(logits, tokens, strict=True))
