"""A constraint that leaves no choice: the model's logits along tokens that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class ForcedTokens:
    """Allows each of some tokens in turn, then all."""

    def __init__(self, token_ids: Sequence[int], n_vocab: int) -> None:
        self._rest = list(reversed(token_ids))
        self._words = np.zeros(-(-n_vocab // 32), np.uint32)

    def allowed(self) -> NDArray[np.uint32] | None:
        """The next of the tokens."""
        if not self._rest:
            return None
        self._words[:] = 0
        self._words[self._rest[-1] // 32] = np.uint32(1 << self._rest[-1] % 32)
        return self._words

    def accept(self, token_id: int) -> None:
        """Go on to the one after it."""
        if self._rest:
            self._rest.pop()
