"""Which tokens of a vocabulary hold the strings that break a repeat, or the beginnings of them."""

from __future__ import annotations

import threading
from collections import defaultdict
from functools import cached_property

from llorch.engine.dry import Breakers
from llorch.text.tokenizer import Tokenizer

_MAX_TAIL = 20
"""Tokens of what follows a head; a longer rest is cut."""
_N_KEPT = 16


class BreakerFinder:
    """Finds `Breakers`, and keeps the latest ones: a look at a vocabulary takes 0.1 s. Threads may share it.

    Source: llama.cpp 0.5.0-dev, `src/llama-sampler.cpp`, `get_overlapping_token_sequences`.
    """

    def __init__(self, tokenizer: Tokenizer, n_vocab: int) -> None:
        """Set up for a model with `n_vocab` logits."""
        self._tokenizer = tokenizer
        self._n_vocab = n_vocab
        self._looking = threading.Lock()
        self._known: dict[tuple[str, ...], Breakers] = {}

    def find(self, strings: tuple[str, ...]) -> Breakers:
        """The tokens in which one of `strings` begins, and how it goes on."""
        breakers = self._known.get(strings)
        if breakers is None:
            # One look at a time; what is known waits for none: the thread that computes asks, too.
            with self._looking:
                breakers = self._known.get(strings) or self._look(strings)
                self._known[strings] = breakers
                if len(self._known) > _N_KEPT:
                    del self._known[next(iter(self._known))]
        return breakers

    @cached_property
    def _pieces(self) -> list[bytes]:
        tokenizer = self._tokenizer
        return [tokenizer.token_bytes(i, special=True) for i in range(tokenizer.vocab.n_vocab)]

    def _look(self, strings: tuple[str, ...]) -> Breakers:
        tails: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
        for string in strings:
            whole = string.encode("utf-8", "surrogatepass")
            heads = [
                (string[:k].encode("utf-8", "surrogatepass"), self._tail(string[k:]))
                for k in range(1, len(string))
            ]
            for token_id, piece in enumerate(self._pieces):
                if whole in piece:
                    tails[token_id].add(())
                    continue
                for head, tail in heads:
                    if piece.endswith(head):
                        tails[token_id].add(tail)
        found = {token_id: frozenset(those) for token_id, those in tails.items()}
        return Breakers(found, self._n_vocab)

    def _tail(self, rest: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(rest, add_bos=False, parse_special=False))[:_MAX_TAIL]
