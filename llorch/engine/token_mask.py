"""A `Constraint` as the sampler uses it: forbidden logits, accepted tokens, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from llorch.engine.constraint import Constraint
from llorch.errors import ConstraintError

T = TypeVar("T")

_WORD_BITS = 32


class TokenMask:
    """Which tokens the constraint of one generation allows now."""

    def __init__(
        self, new_constraint: Callable[[], Constraint], n_vocab: int, end_ids: Collection[int]
    ) -> None:
        """Set up.

        Args:
            new_constraint: makes the constraint.
            n_vocab: tokens of the model.
            end_ids: its end-of-generation tokens.

        Raises:
            ConstraintError: as the other methods, when the constraint fails.
        """
        self._constraint = _ask(new_constraint)
        self._n_vocab = n_vocab
        self._end_ids = frozenset(end_ids)
        is_going_on = np.ones(n_vocab, np.bool_)
        is_going_on[list(end_ids)] = False
        self._going_on = _packed(is_going_on)
        self._words = _ask(self._allowed)

    @property
    def must_end(self) -> bool:
        """Whether nothing but the end may follow: an end-of-generation token, or no token where the model has none."""
        words = self._words
        if words is None or (words & self._going_on[: len(words)]).any():
            return False
        return not self._end_ids or bool(words.any())

    def forbid(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of tokens that may not come next to -inf, in place; those without a bit are among them."""
        if self._words is not None:
            bits = np.unpackbits(self._words.view(np.uint8), bitorder="little", count=self._n_vocab)
            np.putmask(logits, bits == 0, -np.inf)

    def accept(self, token_id: int) -> None:
        """Go on behind a token that was chosen."""
        if token_id not in self._end_ids:
            _ask(lambda: self._constraint.accept(token_id))
            self._words = _ask(self._allowed)

    def _allowed(self) -> NDArray[np.uint32] | None:
        words = self._constraint.allowed()
        if words is not None and not (isinstance(words, np.ndarray) and words.dtype == np.uint32):
            raise TypeError("allowed() must return an array of uint32")
        return words


def _ask(question: Callable[[], T]) -> T:
    """The answer of a constraint; whatever it raises becomes an error of ours."""
    try:
        return question()
    except Exception as error:
        message = f"the constraint on its tokens failed ({type(error).__name__})"
        raise ConstraintError(message) from error


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Bit `i % 32` of word `i // 32` is item `i`."""
    packed = np.packbits(bits, bitorder="little")
    return np.pad(packed, (0, -len(packed) % (_WORD_BITS // 8))).view(np.uint32)
