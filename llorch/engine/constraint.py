"""What a constraint on the choice of tokens is: a grammar, seen from the sampler."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Constraint(Protocol):
    """Says after each token which may come next. One object for one generation."""

    def allowed(self) -> NDArray[np.uint32] | None:
        """The tokens that may come next: bit `i % 32` of word `i // 32` is token `i`; None: all of them.

        End-of-generation tokens are among them exactly where the text may end. Valid until the next call.
        """

    def accept(self, token_id: int) -> None:
        """Go on behind `token_id`, which was allowed."""
