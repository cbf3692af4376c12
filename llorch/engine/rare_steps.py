"""Steps that few requests ask for: typical-p, top-n-sigma, XTC, a temperature that follows the entropy.

Each takes candidates and returns candidates, as the steps of `narrowing` do; among equals the smaller id counts as the
more probable one.

Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp`; function names stand with each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llorch.engine.narrowing import Candidates, scale_temperature, softmax, top_k
from llorch.engine.params import GREEDY_BELOW, MAX_XTC_THRESHOLD


def typical_p(candidates: Candidates, p: float) -> Candidates:
    """The candidates whose surprise is nearest to the expected one, the fewest whose probabilities exceed `p`.

    Source: `llama_sampler_typical_apply`; there a candidate of probability 0 makes everything NaN, here it is the last.
    """
    if p >= 1:
        return candidates
    probabilities = softmax(candidates.logits)
    surprise = _surprise(probabilities)
    distance = np.abs(surprise - _expected(probabilities, surprise))
    order = np.argsort(distance, kind="stable")
    sums = np.cumsum(probabilities[order], dtype=np.float32)
    n = int(np.searchsorted(sums, np.float32(p), side="right")) + 1
    return candidates.select(np.sort(order[:n]))


def top_n_sigma(candidates: Candidates, n: float) -> Candidates:
    """Probability 0 for logits more than `n` standard deviations below the largest; `n` <= 0 is off.

    Source: `llama_sampler_top_n_sigma_apply`; the candidates stay, so what counts them afterwards counts as many.
    """
    if n <= 0 or len(candidates.logits) <= 1:
        return candidates
    logits = candidates.logits
    possible = logits[logits > -np.inf]
    floor = possible.max() - np.float32(n) * possible.std(dtype=np.float64)
    return Candidates(candidates.token_ids, np.where(logits < floor, np.float32(-np.inf), logits))


def xtc(
    candidates: Candidates, probability: float, threshold: float, chance: Callable[[], float]
) -> Candidates:
    """Now and then, without all but the least probable of the candidates that reach `threshold`.

    Source: `llama_sample_xtc_apply`.

    Args:
        candidates: to choose from.
        probability: how often.
        threshold: a probability.
        chance: draws a number in [0, 1); not asked where nothing could be dropped.
    """
    if probability <= 0 or threshold > MAX_XTC_THRESHOLD or len(candidates.logits) < 2:
        return candidates
    if chance() > probability:
        return candidates
    probabilities = softmax(candidates.logits)
    likely = np.flatnonzero(probabilities >= np.float32(threshold))
    if len(likely) < 2:
        return candidates
    least = likely[len(likely) - 1 - int(np.argmin(probabilities[likely][::-1]))]
    return candidates.select(np.delete(np.arange(len(probabilities)), likely[likely != least]))


def dynamic_temperature(
    candidates: Candidates, temperature: float, spread: float, exponent: float
) -> Candidates:
    """Logits divided by a temperature that rises with the entropy, from `temperature - spread` to `+ spread`.

    Source: `llama_sampler_temp_ext_apply`; the entropy counts as a share of the largest that so many candidates have.
    """
    if len(candidates.logits) <= 1:
        return candidates
    probabilities = softmax(candidates.logits)
    share = _expected(probabilities, _surprise(probabilities)) / math.log(len(probabilities))
    low, high = max(0.0, temperature - spread), temperature + spread
    return any_temperature(candidates, low + (high - low) * max(share, 0.0) ** exponent)


def any_temperature(candidates: Candidates, temperature: float) -> Candidates:
    """Logits divided by `temperature`; at 0 the most probable candidate is left. Source: `llama_sampler_temp_impl`."""
    if temperature < GREEDY_BELOW:
        return top_k(candidates, 1)
    return scale_temperature(candidates, temperature)


def _surprise(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural logarithms of the probabilities, negated; inf where one is 0."""
    with np.errstate(divide="ignore"):
        return -np.log(probabilities)


def _expected(probabilities: NDArray[np.float32], surprise: NDArray[np.float32]) -> float:
    """The entropy, in nats."""
    is_possible = probabilities > 0
    return float(np.sum(probabilities[is_possible] * surprise[is_possible]))
