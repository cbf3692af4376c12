"""Top-k, top-p, min-p, temperature and the draw in compiled steps, with the bits of `narrowing`'s functions."""

from __future__ import annotations

import math
import threading
from ctypes import addressof, c_char

import numpy as np
from numpy.typing import NDArray

from llorch.engine.params import SamplingParams
from llorch.kernels.candidates import cut_candidates, draw_candidate, take_candidates
from llorch.kernels.program import float_bits
from llorch.kernels.selection import GROUP, RADIX

_FLOAT32 = np.dtype(np.float32)


class _Room(threading.local):
    """Arrays for the candidates of one row, of each thread that samples.

    Attributes:
        n_vocab: candidates there is room for.
        weights, differences: float32 (n_vocab,).
        places: where ids, values, weights, differences, keys, maxima and sums begin.
    """

    n_vocab = 0

    def reserve(self, n_vocab: int) -> None:
        """Make room for `n_vocab` candidates."""
        if n_vocab <= self.n_vocab:
            return
        self._values, self.weights, self.differences = np.zeros((3, n_vocab), np.float32)
        self._ids, self._keys = np.zeros((2, n_vocab), np.int32)
        self._maxima = np.zeros(max(n_vocab, RADIX), np.int32)
        self._sums = np.zeros(n_vocab // GROUP + 1, np.float64)
        arrays: tuple[NDArray[np.generic], ...] = (
            self._ids, self._values, self.weights, self.differences, self._keys, self._maxima, self._sums,
        )  # fmt: skip
        self.places = tuple(int(array.ctypes.data) for array in arrays)
        self.n_vocab = n_vocab


_room = _Room()


class CompiledDraw:
    """The steps from logits to a token for the parameters of one sequence.

    With 49,152 logits, top-k 40, top-p 0.95 and min-p 0.05, NumPy's functions, of which every step needs several, took
    130 us between two steps of a model, when nothing of them is in the caches.
    """

    def __init__(self, params: SamplingParams) -> None:
        """Translate `params`; not for greedy ones."""
        self._k = params.top_k
        floor = math.log(params.min_p) if params.min_p > 0 else 0.0
        self._cuts = (
            int(params.top_p < 1), float_bits(params.top_p), int(params.min_p > 0), float_bits(floor),
            float_bits(params.temperature),
        )  # fmt: skip

    def narrow(self, logits: NDArray[np.float32]) -> int:
        """Find the candidates that `pick` draws from.

        Args:
            logits: float32 (n_vocab,), read only.

        Returns:
            Their number; below 0 if logits are NaN or +inf or all -inf, or cannot be written to in one piece.
        """
        n_vocab = len(logits)
        if logits.dtype is not _FLOAT32:
            return -1
        try:  # takes a quarter of what `logits.ctypes` does, whose code is in no cache between two steps
            address = addressof(c_char.from_buffer(logits))  # type: ignore[arg-type]
        except (TypeError, ValueError):  # read only, or in pieces
            return -1
        _room.reserve(n_vocab)
        ids, values, weights, differences, keys, maxima, _ = _room.places
        k = self._k if 0 < self._k < n_vocab else n_vocab
        n = take_candidates(address, n_vocab, k, ids, values, differences, keys, maxima)
        if n < 0:
            return n
        if self._cuts[0]:
            np.exp(_room.differences[:n], out=_room.weights[:n])
        return cut_candidates(n, ids, values, weights, differences, keys, maxima, *self._cuts)

    def pick(self, n: int, point: float) -> int:
        """The token in whose share of the probability of the `n` candidates `point`, 0 <= point < 1, falls."""
        np.exp(_room.differences[:n], out=_room.weights[:n])
        ids, _, weights, _, _, _, sums = _room.places
        return draw_candidate(n, ids, weights, sums, int(point * 2.0**53))
