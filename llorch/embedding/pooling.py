"""The embedding of a text: one vector of what the model has made of its tokens."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llorch.errors import FieldError, NumericalError, RequestError
from llorch.fields.kinds import described
from llorch.open_model import OpenModel

Pooling = Literal["mean", "last"]

EUCLIDEAN = 2
"""The norm that vectors have length 1 by, unless something else is asked for."""
LARGEST = 32760
"""The largest absolute value after scaling with norm 0: llama.cpp fits vectors into int16 so."""


def check_pooling(pooling: object) -> None:
    """Refuse what is no way to make one vector of many.

    Raises:
        RequestError: it is none.
    """
    if pooling not in get_args(Pooling):
        rule = '"mean" or "last"'
        message = f"pooling: expected {rule}; got {described(pooling)}"
        raise RequestError([FieldError("pooling", rule, message)])


class Pooler:
    """Makes one vector of what leaves the last layer for the tokens of a text: the `states_to` of its request.

    The rows are normed; sums are float64 in the order of the tokens. So the bits do not depend on how the text is cut
    into steps.

    Source: llama.cpp's embeddings with the same pooling; not bit-exact.

    Attributes:
        n_tokens: how many have been read.
    """

    def __init__(self, loaded: OpenModel, pooling: Pooling) -> None:
        """Begin with nothing.

        Args:
            loaded: the model.
            pooling: ``"mean"`` of all tokens, or the ``"last"`` alone.
        """
        self.n_tokens = 0
        self._eps = loaded.config.norm_eps
        self._weight = loaded.weights.output_norm
        self._takes_last = pooling == "last"
        self._sum = np.zeros(loaded.config.n_embd)

    def read(self, first: int, states: NDArray[np.float32]) -> None:
        """Add the tokens that have not been read; arguments as `StatesReader` has them.

        Raises:
            NumericalError: a state is NaN or infinite.
        """
        new = states[self.n_tokens - first :]
        if not len(new):
            return
        self.n_tokens += len(new)
        x = (new[-1:] if self._takes_last else new).astype(np.float64)  # (n_new, n_embd)
        if not np.isfinite(x).all():
            raise NumericalError("what leaves the last layer is not finite")
        x /= np.sqrt(np.mean(x * x, axis=1, keepdims=True) + self._eps)
        if self._takes_last:
            self._sum[:] = 0.0
        for row in x:  # NumPy's own sum may take another order
            self._sum += row

    def vector(self, norm: int = EUCLIDEAN) -> NDArray[np.float32]:
        """The vector of the tokens that have been read, at least one: float32 (n_embd,).

        Args:
            norm: the norm that it has length 1 by: 2, or another p >= 1; -1: it is not scaled; 0: its largest absolute
                value becomes `LARGEST`, as in llama.cpp.
        """
        x = self._sum / (1 if self._takes_last else self.n_tokens) * self._weight
        length = _length(x, norm)
        return (x / length if length else x).astype(np.float32)


def _length(x: NDArray[np.float64], norm: int) -> float:
    """What `x` is divided by."""
    if norm == -1:
        return 1.0
    largest = float(np.abs(x).max())
    if norm == 0:
        return largest / LARGEST
    if norm == EUCLIDEAN or not largest:
        return float(np.linalg.norm(x))
    return largest * float(np.sum((np.abs(x) / largest) ** norm) ** (1 / norm))  # no power may overflow
