"""SentencePiece-BPE: merge the pair with the best score until no pair is left."""

from __future__ import annotations

import heapq
import re
from functools import lru_cache

import numpy as np

from llorch.errors import ModelError
from llorch.text.vocab import TokenType, Vocabulary

SPACE = "▁"
"""The character that stands for a space inside the vocabulary (U+2581)."""

_CACHED_WORDS = 32768
_CACHED_WORD_CHARS = 32

_NOT_TEXT = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE)


class SPMEncoder:
    """Text to token ids by score-greedy merging; safe to use from several threads.

    Text never becomes a control, unknown or byte token by merging: ``<s>`` typed by a user stays text.

    Source: llama.cpp `llm_tokenizer_spm_session`, sentencepiece `bpe_model.cc`; same ids as both.
    """

    def __init__(self, vocab: Vocabulary) -> None:
        self._ids = _text_pieces(vocab)
        _, ranks = np.unique(-vocab.scores, return_inverse=True)
        self._ranks = dict(zip(self._ids, ranks[list(self._ids.values())].tolist(), strict=True))
        self._byte_ids = _byte_ids(vocab)
        self._unk_id = vocab.unk_id
        if self._unk_id is None and None in self._byte_ids:
            raise ModelError("tokenizer.ggml.unknown_token_id: needed, as the vocabulary lacks byte tokens")
        self._words = re.compile(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+")
        self._is_split_into_words = not _has_space_inside(self._ids)
        self._merge_cached = lru_cache(maxsize=_CACHED_WORDS)(self._merge)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, whose spaces are already written as `SPACE`.

        Characters without a piece become their UTF-8 bytes; if the vocabulary has no byte tokens, a run of
        such characters becomes one unknown token, as in sentencepiece.
        """
        token_ids: list[int] = []
        if self._is_split_into_words:
            # No piece spans two words, so no merge does: each word is encoded alone.
            for word in self._words.findall(text):
                is_cached = len(word) <= _CACHED_WORD_CHARS
                token_ids += self._merge_cached(word) if is_cached else self._merge(word)
        else:
            token_ids += self._merge(text)
        return token_ids if None not in self._byte_ids else self._fuse_unknown(token_ids)

    def _merge(self, text: str) -> tuple[int, ...]:
        """Token ids of `text`, merged as one piece of work in O(n log n).

        A symbol is identified by the index of its first character. The heap holds ``rank * n + left`` for the pair
        that begins at `left`: one integer that orders by score, then from left to right. An entry is stale
        if that pair has another rank now.
        """
        n = len(text)
        rank_of = self._ranks.get
        after = [*range(1, n + 1), n]  # first character after the symbol; only valid where a symbol begins
        before = [*range(-1, n)]  # where the symbol on the left begins
        pair_ranks = [rank_of(text[i : i + 2], -1) for i in range(n - 1)]
        pair_ranks.append(-1)
        heap = [rank * n + left for left, rank in enumerate(pair_ranks) if rank >= 0]
        heapq.heapify(heap)
        while heap:
            rank, left = divmod(heapq.heappop(heap), n)
            if pair_ranks[left] != rank:
                continue
            right = after[left]
            end = after[right]
            after[left] = end
            pair_ranks[right] = pair_ranks[left] = -1
            if end < n:
                before[end] = left
                rank = pair_ranks[left] = rank_of(text[left : after[end]], -1)
                if rank >= 0:
                    heapq.heappush(heap, rank * n + left)
            previous = before[left]
            if previous >= 0:
                rank = pair_ranks[previous] = rank_of(text[previous:end], -1)
                if rank >= 0:
                    heapq.heappush(heap, rank * n + previous)
        return self._symbols_to_ids(text, after)

    def _symbols_to_ids(self, text: str, after: list[int]) -> tuple[int, ...]:
        token_ids: list[int] = []
        begin = 0
        while begin < len(text):
            symbol = text[begin : after[begin]]
            token_id = self._ids.get(symbol)
            if token_id is not None:
                token_ids.append(token_id)
            else:
                token_ids += self._spell(symbol)
            begin = after[begin]
        return tuple(token_ids)

    def _spell(self, character: str) -> list[int]:
        """Byte tokens of a character without a piece, or the unknown token when one of them is missing."""
        token_ids = [self._byte_ids[byte] for byte in character.encode()]
        known = [token_id for token_id in token_ids if token_id is not None]
        if len(known) == len(token_ids) or self._unk_id is None:
            return known
        return [self._unk_id]

    def _fuse_unknown(self, token_ids: list[int]) -> list[int]:
        unk_id = self._unk_id
        return [
            token_id
            for i, token_id in enumerate(token_ids)
            if token_id != unk_id or i == 0 or token_ids[i - 1] != unk_id
        ]


def _text_pieces(vocab: Vocabulary) -> dict[str, int]:
    """Ids of the pieces that text can become. The last of equal pieces counts, as in llama.cpp."""
    pieces: dict[str, int] = {}
    for token_id, (token, token_type) in enumerate(zip(vocab.tokens, vocab.types, strict=True)):
        if token_type in _NOT_TEXT:
            continue
        try:
            pieces[token.decode()] = token_id
        except UnicodeDecodeError:  # no valid text contains it; it can still be generated
            continue
    return pieces


def _byte_ids(vocab: Vocabulary) -> list[int | None]:
    """Id of the token for each byte: ``<0x0A>``, whatever its type, else the bare byte as a token."""
    ids = {
        token: token_id
        for token_id, token in enumerate(vocab.tokens)
        if len(token) in (1, 6) and not vocab.is_control(token_id)
    }
    return [ids.get(b"<0x%02X>" % byte, ids.get(bytes([byte]))) for byte in range(256)]


def _has_space_inside(pieces: dict[str, int]) -> bool:
    """Whether a piece has `SPACE` after another character, so that merges may cross words."""
    return any(SPACE in piece.lstrip(SPACE) for piece in pieces)
