"""Top-k, top-p, min-p, temperature and the draw: each takes a set of candidates and returns one that is not larger.

Candidates are in order of their ids, so among equal logits the smaller id wins everywhere, and a result never depends
on a sorting algorithm. `compiled_draw` does the same in compiled calls, with the same bits.

Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp`; function names stand with each step.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.engine.params import SamplingParams

_GROUP = 64
"""Logits of which the largest is looked for first, where there are enough of them."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens that may still be chosen, in order of their ids.

    Attributes:
        token_ids: int32 (n,), ascending.
        logits: float32 (n,).
    """

    token_ids: NDArray[np.int32]
    logits: NDArray[np.float32]

    @classmethod
    def from_logits(cls, logits: NDArray[np.float32]) -> Candidates:
        """The whole vocabulary; `logits` is not copied."""
        return cls(_all_token_ids(len(logits)), logits)

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Candidates:
        """The candidates that `chosen`, a mask or ascending indices, picks."""
        return Candidates(self.token_ids[chosen], self.logits[chosen])


def narrowed(candidates: Candidates, params: SamplingParams) -> Candidates:
    """What top-k, top-p, min-p and temperature leave and make of `candidates`."""
    candidates = top_k(candidates, params.top_k)
    candidates = top_p(candidates, params.top_p)
    candidates = min_p(candidates, params.min_p)
    return scale_temperature(candidates, params.temperature)


def top_k(candidates: Candidates, k: int) -> Candidates:
    """The `k` most probable candidates; all of them when `k` is 0. Source: `llama_sampler_top_k_impl`."""
    if k <= 0 or k >= len(candidates.logits):
        return candidates
    logits = candidates.logits
    if k <= len(logits) // _GROUP and len(likely := _likely(logits, k)) < len(logits):
        return top_k(candidates.select(likely), k)
    threshold = np.partition(logits, len(logits) - k)[len(logits) - k]
    chosen = np.flatnonzero(logits >= threshold)
    if len(chosen) > k:
        equal = chosen[logits[chosen] == threshold]
        chosen = np.setdiff1d(chosen, equal[k - len(chosen) :], assume_unique=True)
    return candidates.select(chosen)


def _likely(logits: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Indices, ascending, of all logits that can be among the `k` largest, and of few others.

    The k-th largest of the groups' maxima is at most the k-th largest logit. To find these few and
    then sort them takes half the time of `np.partition` on all of a vocabulary of 49,152.
    """
    n_groups = len(logits) // _GROUP
    maxima = logits[: n_groups * _GROUP].reshape(_GROUP, n_groups).max(axis=0)
    return np.flatnonzero(logits >= np.partition(maxima, n_groups - k)[n_groups - k])


def top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest most probable candidates whose probabilities sum to at least `p`; never none.

    Source: `llama_sampler_top_p_apply` with `min_keep` 1; sums in float32, as there.
    """
    if p >= 1:
        return candidates
    falling = np.sort(softmax(candidates.logits))[::-1]
    n = int(np.searchsorted(np.cumsum(falling, dtype=np.float32), np.float32(p))) + 1
    return top_k(candidates, n)


def min_p(candidates: Candidates, p: float) -> Candidates:
    """The candidates at least `p` times as probable as the most probable one.

    Source: `llama_sampler_min_p_apply`: the comparison is made on logits.
    """
    if p <= 0:
        return candidates
    threshold = candidates.logits.max() + np.float32(math.log(p))
    return candidates.select(candidates.logits >= threshold)


def scale_temperature(candidates: Candidates, temperature: float) -> Candidates:
    """Divide the logits by `temperature` > 0. Source: `llama_sampler_temp_impl`.

    If the largest overflows, differences to it are divided instead, which gives the same probabilities.
    """
    logits = candidates.logits / np.float32(temperature)
    if not np.isfinite(logits.max()):
        logits = (candidates.logits - candidates.logits.max()) / np.float32(temperature)
    return Candidates(candidates.token_ids, logits)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of `logits`, float32 (n,). Source: `llama_sampler_softmax_impl`."""
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum(), np.float32)


def draw(candidates: Candidates, point: float) -> int:
    """The token in whose share of the total probability `point`, 0 <= point < 1, falls.

    Source: `llama_sampler_dist_apply`, sums in float64. There a sum equal to the target is enough; here it
    must exceed it, so that a token of probability zero is never drawn, not even at 0.
    """
    weights = np.exp(candidates.logits - candidates.logits.max())
    sums = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(sums, point * sums[-1], side="right"))
    last = int(np.searchsorted(sums, sums[-1]))  # rounding may lift the target to the very end
    return int(candidates.token_ids[min(index, last)])


@functools.lru_cache(maxsize=4)
def _all_token_ids(n_vocab: int) -> NDArray[np.int32]:
    token_ids = np.arange(n_vocab, dtype=np.int32)
    token_ids.flags.writeable = False
    return token_ids
