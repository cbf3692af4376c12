"""Constraints for tests: a set of tokens for each place of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def bit_words(token_ids: Iterable[int], n_vocab: int) -> NDArray[np.uint32]:
    """The words of `llorch.engine.constraint.Constraint.allowed`, made bit by bit."""
    words = np.zeros(-(-n_vocab // 32), np.uint32)
    for token_id in token_ids:
        words[token_id // 32] |= np.uint32(1 << (token_id % 32))
    return words


class Sets:
    """Allows at each place the tokens of one set (None: all), and none behind the last."""

    def __init__(self, sets: Sequence[set[int] | None], n_vocab: int) -> None:
        self._sets = [*sets, set[int]()]
        self._n_vocab = n_vocab
        self.accepted: list[int] = []

    def allowed(self) -> NDArray[np.uint32] | None:
        now = self._sets[min(len(self.accepted), len(self._sets) - 1)]
        return None if now is None else bit_words(now, self._n_vocab)

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)
