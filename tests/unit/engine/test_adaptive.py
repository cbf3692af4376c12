"""Adaptive-p: the mean probability of what it chooses comes near its target."""

from __future__ import annotations

import numpy as np
import pytest

from llorch.engine.adaptive import AdaptiveP
from llorch.engine.narrowing import Candidates, draw, softmax
from llorch.engine.params import SamplingParams
from llorch.engine.sampling import Sampler

LOGITS = np.log(np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04], np.float32))
CANDIDATES = Candidates.from_logits(LOGITS)


def adaptive(target: float, decay: float = 0.9) -> AdaptiveP:
    return AdaptiveP(SamplingParams(adaptive_target=target, adaptive_decay=decay))


@pytest.mark.parametrize("target", [0.1, 0.2, 0.3])
def test_the_mean_probability_comes_near_the_target(target: float) -> None:
    chooser, chance = adaptive(target), np.random.default_rng(1)
    ids = [chooser.choose(CANDIDATES, lambda left: draw(left, float(chance.random()))) for _ in range(2000)]
    assert np.mean(softmax(LOGITS)[ids]) == pytest.approx(target, abs=0.02)


def test_a_token_at_the_target_has_the_highest_logit() -> None:
    bent = adaptive(0.15).bend(CANDIDATES)
    assert int(bent.logits.argmax()) == 2
    assert bent.logits[2] == pytest.approx(5, abs=1e-5)
    distance = (0.4 - 0.15) / 0.3
    assert bent.logits[0] == pytest.approx(5 - 10 * distance**2 / (1 + distance), rel=1e-5)


def test_the_target_of_a_step_lies_on_the_other_side_of_the_mean() -> None:
    chooser = adaptive(0.2, decay=0.0)
    chooser.learn(CANDIDATES, 1)  # of probability 0.25
    assert int(chooser.bend(CANDIDATES).logits.argmax()) == 2  # the next to 0.15


def test_what_is_impossible_stays_so() -> None:
    row = np.array([-np.inf, 0, -np.inf, 1], np.float32)
    bent = adaptive(0.0).bend(Candidates.from_logits(row))
    assert np.isneginf(bent.logits).tolist() == [True, False, True, False]
    assert not np.isnan(bent.logits).any()


def test_it_follows_the_other_steps_and_mirostat_and_temperature_0_leave_it_nothing() -> None:
    def ids(**fields: object) -> list[int]:
        sampler = Sampler(SamplingParams(**{"min_p": 0.0, **fields}), 3, ())  # type: ignore[arg-type]
        return [sampler.sample(LOGITS) for _ in range(60)]

    assert max(ids(top_k=2, adaptive_target=0.0)) == 1 < max(ids(adaptive_target=0.0))
    assert set(ids(temperature=0, adaptive_target=0.0)) == {0}
    assert ids(mirostat=2, adaptive_target=0.0) == ids(mirostat=2)
    assert ids(adaptive_target=-0.5) == ids()
    assert ids(adaptive_target=0.0, top_p=1.0) != ids(top_p=1.0)
