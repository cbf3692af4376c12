"""Adaptive-p: prefers tokens whose probability is near a target, and keeps the mean of those chosen there.

Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp`, `llama_sampler_adaptive_p_apply` and `..._accept`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llorch.engine.narrowing import Candidates, softmax
from llorch.engine.params import SamplingParams

_WIDTH = np.float32(0.3)
"""Distance from the target, in probability, that counts as one."""
_PEAK, _SLOPE = np.float32(5), np.float32(10)
"""The logit of a token at the target, and how much it falls for each `_WIDTH` far from it."""


class AdaptiveP:
    """The state of one sequence: sums of the probabilities of its tokens, of which older ones count less."""

    def __init__(self, params: SamplingParams) -> None:
        """Begin as if every earlier token had had the target's probability."""
        self._target = params.adaptive_target
        self._decay = params.adaptive_decay
        self._weights = 1 / (1 - params.adaptive_decay)
        self._sum = params.adaptive_target * self._weights

    def choose(self, candidates: Candidates, draw: Callable[[Candidates], int]) -> int:
        """Draw one of the candidates that are near the target, and learn from it.

        Args:
            candidates: what the other steps left.
            draw: draws one of the bent candidates.
        """
        token_id = draw(self.bend(candidates))
        self.learn(candidates, token_id)
        return token_id

    def bend(self, candidates: Candidates) -> Candidates:
        """The candidates with logits that are the higher, the nearer their probability is to the target of this step.

        That one lies as far on the other side of the target as the mean of the tokens so far does on this one.
        Impossible candidates stay so.
        """
        target = np.float32(min(max(2 * self._target - self._sum / self._weights, 0.0), 1.0))
        distance = np.abs(softmax(candidates.logits) - target) / _WIDTH
        logits = _PEAK - _SLOPE * distance * distance / (1 + distance)
        return Candidates(candidates.token_ids, np.where(candidates.logits > -np.inf, logits, -np.inf))

    def learn(self, candidates: Candidates, token_id: int) -> None:
        """Count the probability that `token_id` had among `candidates`."""
        place = np.searchsorted(candidates.token_ids, token_id)
        self._sum = float(softmax(candidates.logits)[place]) + self._decay * self._sum
        self._weights = 1 + self._decay * self._weights
