"""Mirostat: the surprise of what it chooses comes near its target."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from llorch.engine.mirostat import Mirostat
from llorch.engine.narrowing import Candidates, draw, softmax
from llorch.engine.params import SamplingParams

N_VOCAB = 2000
ZIPF = Candidates.from_logits((-1.1 * np.log(np.arange(1, N_VOCAB + 1))).astype(np.float32))
"""Probabilities that fall by a power of the rank, which version 1 expects."""


def mirostat(version: int, target: float, rate: float = 0.1) -> Mirostat:
    return Mirostat(SamplingParams(mirostat=version, mirostat_tau=target, mirostat_eta=rate))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("target", [2.0, 4.0])
def test_the_mean_surprise_comes_near_the_target(version: int, target: float) -> None:
    chooser, chance = mirostat(version, target), np.random.default_rng(1)
    surprises = []
    for _ in range(600):
        kept = chooser.cut(ZIPF, N_VOCAB)
        token_id = chooser.choose(ZIPF, N_VOCAB, lambda left: draw(left, float(chance.random())))
        surprises.append(-math.log2(softmax(kept.logits)[np.searchsorted(kept.token_ids, token_id)]))
    assert np.mean(surprises[200:]) == pytest.approx(target, abs=0.25)


def test_version_1_keeps_as_many_as_the_estimate_says() -> None:
    power, bound = 1.1, 2 * 3.0
    excess = power - 1
    n = int(((excess * 2**bound) / (1 - N_VOCAB**-excess)) ** (1 / power))
    assert len(mirostat(1, 3.0).cut(ZIPF, N_VOCAB).token_ids) == pytest.approx(n, abs=1)


def test_version_2_keeps_what_surprises_by_at_most_the_bound() -> None:
    kept = mirostat(2, 3.0).cut(ZIPF, N_VOCAB)
    assert kept.token_ids.tolist() == np.flatnonzero(-np.log2(softmax(ZIPF.logits)) <= 6).tolist()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "logits",
    [
        [3.0],
        [0.0, 0.0, 0.0],
        [50.0, -np.inf, -np.inf],
        [0.0, -80.0, -90.0],
        (-np.log(np.arange(1, 50))).tolist(),  # the power 1, where the estimate divides 0 by 0
    ],
)
def test_something_is_always_chosen(version: int, logits: list[float]) -> None:
    candidates = Candidates.from_logits(np.array(logits, np.float32))
    for target in (0.0, 5.0, 100.0):
        chooser = mirostat(version, target, 1.0)
        for point in (0.0, 0.5, 0.999):
            token_id = chooser.choose(candidates, len(logits), functools.partial(draw, point=point))
            assert candidates.logits[token_id] > -np.inf
