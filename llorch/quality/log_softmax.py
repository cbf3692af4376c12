"""Rows of logits made log-probabilities, many rows at a time on all compute threads.

Exponentials are float32 and their sums float64, as llama-perplexity has them; NumPy lets other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray

from llorch.errors import NumericalError

_PIECE_ELEMENTS = 1 << 19
"""Logits that a thread handles at a time: what is computed of them stays in its caches."""


def log_sums(logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The largest logit of each row, and the logarithm of the sum of all exponentials relative to it.

    Args:
        logits: float32 (n, n_vocab).

    Raises:
        NumericalError: a row holds NaN or +inf, or nothing else than -inf.
    """
    largest = logits.max(axis=1)
    if not np.isfinite(largest).all():
        raise NumericalError("the model computed logits that are no numbers")
    shifted = logits - largest[:, None]
    np.exp(shifted, out=shifted)
    return largest, np.log(shifted.sum(axis=1, dtype=np.float64))


def negative_log_likelihoods(logits: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.float64]:
    """How improbable each row's wanted token is: float64 (n,), in nats."""
    largest, sums = log_sums(logits)
    of_wanted = logits[np.arange(len(wanted)), wanted]
    return sums - (of_wanted - largest)


def for_all_rows(pool: ThreadPoolExecutor, work: Callable[[slice], None], n_rows: int, n_vocab: int) -> None:
    """Call `work` for ranges of rows that together are all; returns when all calls have ended, and raises a fault."""
    step = max(1, _PIECE_ELEMENTS // n_vocab)
    ranges = [slice(begin, min(begin + step, n_rows)) for begin in range(0, n_rows, step)]
    done = [pool.submit(work, rows) for rows in ranges]
    wait(done)
    for call in done:
        call.result()
