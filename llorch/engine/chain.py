"""The steps from logits to a token in any order, on NumPy arrays: what `CompiledDraw` does not do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.engine.adaptive import AdaptiveP
from llorch.engine.dry import Repeats
from llorch.engine.mirostat import Mirostat
from llorch.engine.narrowing import Candidates, draw, min_p, top_k, top_p
from llorch.engine.params import SamplingParams
from llorch.engine.penalties import apply_penalties
from llorch.engine.rare_steps import any_temperature, dynamic_temperature, top_n_sigma, typical_p, xtc


class Chain:
    """The steps of one sequence.

    Attributes:
        left: the candidates that the last token was drawn from.
    """

    left: Candidates

    def __init__(
        self,
        params: SamplingParams,
        recent: Callable[[], Sequence[int]],
        repeats: Repeats | None,
        chance: Callable[[], float],
    ) -> None:
        """Set up.

        Args:
            params: `in_effect`.
            recent: the tokens that penalties see.
            repeats: what DRY sees, if it has an effect.
            chance: draws a number in [0, 1).
        """
        self._params = params
        self._recent = recent
        self._repeats = repeats
        self._chance = chance
        self._mirostat = Mirostat(params) if params.mirostat else None
        self._adaptive = AdaptiveP(params) if params.adaptive_target >= 0 else None
        self._steps: dict[str, Callable[[Candidates], Candidates]] = {
            "penalties": self._penalize,
            "dry": self._penalize_repeats,
            "top_n_sigma": lambda candidates: top_n_sigma(candidates, params.top_n_sigma),
            "top_k": lambda candidates: top_k(candidates, params.top_k),
            "typical_p": lambda candidates: typical_p(candidates, params.typical_p),
            "top_p": lambda candidates: top_p(candidates, params.top_p),
            "min_p": lambda candidates: min_p(candidates, params.min_p),
            "xtc": lambda candidates: xtc(candidates, params.xtc_probability, params.xtc_threshold, chance),
            "temperature": self._heat,
        }

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token.

        Args:
            logits: float32 (n_vocab,), read only; none is NaN or +inf, one at least is finite.
        """
        candidates = Candidates.from_logits(logits)
        for name in self._params.samplers:
            candidates = self._steps[name](candidates)
        if self._mirostat is not None:
            return self._mirostat.choose(candidates, len(logits), self._draw)
        if self._adaptive is not None:
            return self._adaptive.choose(candidates, self._draw)
        return self._draw(candidates)

    def _draw(self, left: Candidates) -> int:
        self.left = left
        return draw(left, self._chance())

    def _heat(self, candidates: Candidates) -> Candidates:
        params = self._params
        if params.dynatemp_range > 0:
            return dynamic_temperature(
                candidates, params.temperature, params.dynatemp_range, params.dynatemp_exponent
            )
        return any_temperature(candidates, params.temperature)

    def _penalize(self, candidates: Candidates) -> Candidates:
        params = self._params
        recent = self._recent() if params.has_penalties else ()
        places, _ = _places(candidates, np.array(recent, np.int64))
        if not len(places):
            return candidates
        logits = candidates.logits.copy()
        apply_penalties(logits, places.tolist(), params)
        return Candidates(candidates.token_ids, logits)

    def _penalize_repeats(self, candidates: Candidates) -> Candidates:
        if self._repeats is None:
            return candidates
        token_ids, amounts = self._repeats.penalties()
        places, is_there = _places(candidates, token_ids)
        logits = candidates.logits.copy()
        logits[places] -= amounts[is_there]
        return Candidates(candidates.token_ids, logits)


def _places(
    candidates: Candidates, token_ids: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where those of `token_ids` that are candidates stand, and which ones are."""
    places = np.searchsorted(candidates.token_ids, token_ids)
    places = np.minimum(places, len(candidates.token_ids) - 1)
    is_there = candidates.token_ids[places] == token_ids
    return places[is_there], is_there
