"""Mirostat: cuts the candidates so that the surprise of the chosen tokens stays near a target.

Source: Basu et al., "Mirostat: a neural text decoding algorithm that directly controls perplexity" (2021), as in
llama.cpp 0.5.0-dev, `src/llama-sampler.cpp`, `llama_sampler_mirostat_apply` and `llama_sampler_mirostat_v2_apply`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from llorch.engine.narrowing import Candidates, softmax, top_k
from llorch.engine.params import SamplingParams

_N_ESTIMATE = 100
"""Most probable tokens from which version 1 estimates how fast probabilities fall."""


class Mirostat:
    """The state of one sequence."""

    def __init__(self, params: SamplingParams) -> None:
        """Begin with the target and learning rate of `params`."""
        self._version = params.mirostat
        self._target = params.mirostat_tau
        self._rate = params.mirostat_eta
        self._bound = 2 * params.mirostat_tau

    def choose(self, candidates: Candidates, n_vocab: int, draw: Callable[[Candidates], int]) -> int:
        """Cut the candidates, draw one, and learn from it.

        Args:
            candidates: to choose from, with the temperature in their logits.
            n_vocab: tokens of the model.
            draw: draws one of those that are kept.
        """
        kept = self.cut(candidates, n_vocab)
        token_id = draw(kept)
        self.learn(kept, token_id)
        return token_id

    def cut(self, candidates: Candidates, n_vocab: int) -> Candidates:
        """The most probable candidates, as many as the bound on their surprise lets stay; never none."""
        n = self._n_kept(candidates) if self._version == 2 else self._n_by_estimate(candidates, n_vocab)
        return top_k(candidates, max(n, 1))

    def learn(self, kept: Candidates, token_id: int) -> None:
        """Move the bound by how far the surprise of the chosen token is from the target."""
        chance = float(softmax(kept.logits)[np.searchsorted(kept.token_ids, token_id)])
        surprise = -math.log2(max(chance, float(np.finfo(np.float32).tiny)))
        self._bound -= self._rate * (surprise - self._target)

    def _n_kept(self, candidates: Candidates) -> int:
        """How many candidates surprise by at most the bound."""
        probabilities = softmax(candidates.logits)
        with np.errstate(divide="ignore"):
            return int(np.count_nonzero(-np.log2(probabilities) <= np.float32(self._bound)))

    def _n_by_estimate(self, candidates: Candidates, n_vocab: int) -> int:
        """As many as would surprise by the bound, if probabilities fall by a power of the rank (Zipf's law)."""
        falling = -np.sort(-softmax(top_k(candidates, _N_ESTIMATE).logits))
        falling = falling[falling > 0].astype(np.float64)
        if len(falling) < 2:
            return 1
        ranks = np.arange(1, len(falling))
        gaps = np.log((ranks + 1) / ranks)
        power = float(gaps @ np.log(falling[:-1] / falling[1:]) / (gaps @ gaps))
        excess = power - 1
        # excess / (1 - n_vocab ** -excess), which has a limit at 0
        log_n = math.log(n_vocab)
        shape = 1 / log_n if abs(excess * log_n) < 1e-9 else -excess / math.expm1(-excess * log_n)
        if power <= 0:
            return n_vocab
        log_k = (math.log(shape) + self._bound * math.log(2)) / power
        return n_vocab if log_k > log_n else int(math.exp(log_k))
