"""DRY ("don't repeat yourself"): a penalty for tokens that would go on repeating the text so far.

Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp`, `llama_sampler_dry_apply`, after the proposal by p-e-w in
text-generation-webui (pull request 5677).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llorch.engine.params import SamplingParams

_LARGEST = float(np.finfo(np.float32).max)


class Breakers:
    """Tokens with which a sequence breaker begins.

    Attributes:
        tails: by token, what may follow it to complete a breaker; an empty one if it holds a whole breaker.
        is_head: bool (n_vocab,): whether a token is among them.
    """

    def __init__(self, tails: Mapping[int, frozenset[tuple[int, ...]]], n_vocab: int) -> None:
        self.tails = tails
        self.is_head = np.zeros(n_vocab, np.bool_)
        self.is_head[list(tails)] = True

    def is_whole(self, token_id: int) -> bool:
        """Whether the token alone breaks a sequence."""
        return () in self.tails.get(token_id, ())


class Repeats:
    """The tokens of one sequence, and how long the end of them repeats what stands further in front.

    `_lengths[lag]` counts the equal tokens, from the end backwards, of the text and the text without its last `lag`
    tokens. A new token makes each of them one longer, or 0: a pass over one array, where the source finds all of them
    anew.
    """

    def __init__(self, params: SamplingParams, breakers: Breakers, token_ids: Iterable[int]) -> None:
        """Begin behind `token_ids`, those of the prompt."""
        self._params = params
        self._breakers = breakers
        tokens = list(token_ids)
        self._n = len(tokens)
        self._tokens, self._lengths = np.zeros((2, self._n + 64), np.int32)
        self._tokens[: self._n] = tokens
        self._lengths[: self._n] = repeat_lengths(tokens)

    def append(self, token_id: int) -> None:
        """Go on behind a token."""
        n = self._n
        if n == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.zeros_like(self._tokens)))
            self._lengths = np.concatenate((self._lengths, np.zeros_like(self._lengths)))
        m = self._window(n + 1) - 1
        lengths = self._lengths[1 : m + 1]
        lengths += 1
        lengths *= self._tokens[n - m : n][::-1] == token_id
        self._tokens[n] = token_id
        self._n = n + 1

    def penalties(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Tokens, ascending, and what to subtract from the logit of each."""
        params, w = self._params, self._window(self._n)
        allowed = params.dry_allowed_length
        if w <= allowed or (limit := self._limit(w)) < allowed:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        lengths = np.minimum(self._lengths[1:w], np.minimum(np.arange(w - 1, 0, -1), limit))
        lags = np.flatnonzero(lengths >= allowed) + 1
        longest: dict[int, int] = {}
        following = self._tokens[self._n - lags]
        for token_id, length in zip(following.tolist(), lengths[lags - 1].tolist(), strict=True):
            longest[token_id] = max(longest.get(token_id, 0), length)
        token_ids = [token_id for token_id in sorted(longest) if not self._breakers.is_whole(token_id)]
        return np.array(token_ids, np.int64), self._amounts([longest[token_id] for token_id in token_ids])

    def _window(self, n: int) -> int:
        last_n = self._params.dry_penalty_last_n
        return n if last_n < 0 else min(n, last_n)

    def _limit(self, w: int) -> int:
        """Tokens since the latest breaker among the last `w` ones."""
        tokens = self._tokens[self._n - w : self._n][::-1]
        for i in np.flatnonzero(self._breakers.is_head[tokens]).tolist():
            tails = self._breakers.tails[int(tokens[i])]
            found = [
                len(tail)
                for tail in tails
                if len(tail) <= i and tokens[i - len(tail) : i][::-1].tolist() == list(tail)
            ]
            if found:
                return int(i) - max(found)
        return w

    def _amounts(self, lengths: list[int]) -> NDArray[np.float32]:
        base = self._params.dry_base
        exponents = np.array(lengths, np.float64) - self._params.dry_allowed_length
        if base > 1:
            exponents = np.minimum(exponents, int(math.log(_LARGEST) / math.log(base)))
        return np.minimum(self._params.dry_multiplier * base**exponents, _LARGEST).astype(np.float32)


def repeat_lengths(token_ids: Sequence[int]) -> list[int]:
    """For each lag, how many tokens at the end equal those in front of the last `lag` ones; 0 for the lag 0.

    The Z algorithm on the reversed tokens: linear, whatever they are.
    """
    tokens = token_ids[::-1]
    lengths = [0] * len(tokens)
    begin = end = 0  # of the match that reaches furthest
    for lag in range(1, len(tokens)):
        length = min(end - lag, lengths[lag - begin]) if lag < end else 0
        while lag + length < len(tokens) and tokens[length] == tokens[lag + length]:
            length += 1
        lengths[lag] = length
        if lag + length > end:
            begin, end = lag, lag + length
    return lengths
