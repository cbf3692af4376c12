"""How probable tokens are: a log-softmax of the model's logits as they are, or of what sampling left of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llorch.engine.events import TokenLogprobs
from llorch.engine.narrowing import Candidates, top_k
from llorch.errors import NumericalError

_LOWEST = float(np.finfo(np.float32).min)
"""Stands for minus infinity, which JSON does not have."""


@np.errstate(all="ignore")  # what overflows falls to minus infinity
def token_logprobs(
    logits: NDArray[np.float32], token_id: int, n_top: int, left: Candidates | None = None
) -> TokenLogprobs:
    """The logarithm of a token's probability, and those of the most probable tokens.

    All are differences to one sum of the row, made in one order in float32, and are taken in float64: equal logits give
    the identical number and others do not, so the token itself has that of the first of `top` where none is more
    probable.

    Args:
        logits: float32 (n_vocab,), contiguous; read only.
        token_id: the token.
        n_top: how many of the most probable tokens; among equal ones the smaller ids come first.
        left: count only these candidates, with their own logits; none of probability 0 is among the most probable then.

    Raises:
        NumericalError: the logits hold NaN or +inf, or nothing else than -inf.
    """
    if left is not None:
        judged = token_logprobs(left.logits, int(np.searchsorted(left.token_ids, token_id)), n_top)
        top_left = ((int(left.token_ids[i]), value) for i, value in judged.top if value > _LOWEST)
        return TokenLogprobs(judged.logprob, tuple(top_left))
    largest = logits.max()
    if not np.isfinite(largest):
        raise NumericalError(f"the largest logit is {largest}")
    log_sum = math.log(np.exp(logits - largest).sum(dtype=np.float32))
    top = _most_probable(logits, n_top)
    values = (logits[[token_id, *top]].astype(np.float64) - largest) - log_sum
    first, *others = (max(value, _LOWEST) for value in values.tolist())
    return TokenLogprobs(first, tuple(zip(top, others, strict=True)))


def _most_probable(logits: NDArray[np.float32], n: int) -> list[int]:
    """Ids of the `n` largest logits, the largest first."""
    if n <= 1:
        return [int(logits.argmax())][:n]
    chosen = top_k(Candidates.from_logits(logits), n)
    falling = np.argsort(-chosen.logits, kind="stable")
    ids: list[int] = chosen.token_ids[falling].tolist()
    return ids
