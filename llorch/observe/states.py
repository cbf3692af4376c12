"""The hook on what leaves the last layer for the tokens of a prompt, as a step of an engine computes it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class StatesReader(Protocol):
    """Sees the last layer's output for each token of a prompt, in their order, on the thread that computes."""

    def read(self, first: int, states: NDArray[np.float32]) -> None:
        """Look at what a step has computed. It must be quick; what it raises ends the generation.

        Args:
            first: position of the first of the tokens. Those that were computed again are shown again, with the same
                bits.
            states: float32 (n_tokens, n_embd), valid until this returns.
        """
        ...
