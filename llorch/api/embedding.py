"""The embedding of a text: one vector of what the model has made of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llorch.conversation import Conversation
from llorch.errors import FieldError, RequestError
from llorch.fields.kinds import described
from llorch.open_model import OpenModel

Pooling = Literal["mean", "last"]


def check_pooling(pooling: object) -> None:
    """Refuse what is no way to make one vector of many.

    Raises:
        RequestError: it is none.
    """
    if pooling not in get_args(Pooling):
        rule = '"mean" or "last"'
        message = f"pooling: expected {rule}; got {described(pooling)}"
        raise RequestError([FieldError("pooling", rule, message)])


class _LastLayer:
    """A probe that keeps what leaves the last layer, of every batch."""

    def __init__(self, n_layer: int) -> None:
        self._last = n_layer - 1
        self.parts: list[NDArray[np.float32]] = []

    def wants(self, name: str, layer: int) -> bool:
        """Only the output of the last layer."""
        return (name, layer) == ("l_out", self._last)

    def tap(self, name: str, layer: int, value: NDArray[np.float32]) -> None:
        """Copy it."""
        self.parts.append(value.copy())


def embedding(loaded: OpenModel, token_ids: Sequence[int], pooling: Pooling) -> NDArray[np.float32]:
    """The normed output of the last layer, over all tokens or of the last one, scaled to length 1.

    Sums are float64 in the order of the tokens, so the bits do not depend on how the text is cut into batches.

    Args:
        loaded: the model; its engine may compute meanwhile.
        token_ids: at least one.
        pooling: ``"mean"`` of all tokens, or the ``"last"`` alone.

    Returns:
        float32 (n_embd,).

    Source: llama.cpp's embeddings with the same pooling, scaled as `llama-embedding` does by default; not bit-exact.
    """
    probe = _LastLayer(loaded.config.n_layer)
    Conversation(loaded.llama, len(token_ids)).feed(token_ids, probe=probe)
    x = np.concatenate(probe.parts).astype(np.float64)  # (n_tokens, n_embd)
    x = x[-1:] if pooling == "last" else x
    x /= np.sqrt(np.mean(x * x, axis=1, keepdims=True) + loaded.config.norm_eps)
    vector: NDArray[np.float64] = x.mean(axis=0) * loaded.weights.output_norm
    return (vector / np.linalg.norm(vector)).astype(np.float32)
