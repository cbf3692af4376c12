"""SentencePiece-BPE: merge the pair with the best score until no pair is left."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from llorch.errors import ModelError
from llorch.text.merge import CACHED_WORD_CHARS, CACHED_WORDS, merged
from llorch.text.vocab import Vocabulary

SPACE = "▁"
"""The character that stands for a space inside the vocabulary (U+2581)."""

_SPACE_BYTES = SPACE.encode()


class SPMEncoder:
    """Text to token ids by score-greedy merging; safe to use from several threads.

    Text never becomes a control, unknown or byte token by merging: ``<s>`` typed by a user stays text.

    Source: llama.cpp `llm_tokenizer_spm_session`, sentencepiece `bpe_model.cc`; same ids as both.
    """

    def __init__(self, vocab: Vocabulary, oddities: list[str]) -> None:
        """Prepare `vocab`; nothing is appended to `oddities`, as its keys are all that can be odd here."""
        self._ids = vocab.text_pieces()
        _, ranks = np.unique(-vocab.scores, return_inverse=True)
        self._ranks = dict(zip(self._ids, ranks[list(self._ids.values())].tolist(), strict=True))
        self._byte_ids = _byte_ids(vocab)
        self._unk_id = vocab.unk_id
        if self._unk_id is None and None in self._byte_ids:
            raise ModelError("tokenizer.ggml.unknown_token_id: needed, as the vocabulary lacks byte tokens")
        self._words = re.compile(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+")
        self._is_split_into_words = not _has_space_inside(self._ids)
        self._prefix = SPACE if vocab.add_space_prefix else ""
        self._merge_cached = lru_cache(maxsize=CACHED_WORDS)(self._merge)

    def encode(self, text: str, *, is_start: bool) -> list[int]:
        """Token ids of `text`; at the start of a text, the space prefix goes in front.

        Characters without a piece become their UTF-8 bytes; if the vocabulary has no byte tokens, a run of
        such characters becomes one unknown token, as in sentencepiece.
        """
        text = (self._prefix if is_start else "") + text.replace(" ", SPACE)
        token_ids: list[int] = []
        if self._is_split_into_words:
            # No piece spans two words, so no merge does: each word is encoded alone.
            for word in self._words.findall(text):
                is_cached = len(word) <= CACHED_WORD_CHARS
                token_ids += self._merge_cached(word) if is_cached else self._merge(word)
        else:
            token_ids += self._merge(text)
        return token_ids if None not in self._byte_ids else self._fuse_unknown(token_ids)

    def text_of(self, token: bytes) -> bytes:
        """The bytes that `token` spells."""
        return token.replace(_SPACE_BYTES, b" ")

    def _merge(self, text: str) -> tuple[int, ...]:
        """Token ids of `text`, merged as one piece of work."""
        token_ids: list[int] = []
        for symbol in merged(text, self._ranks, ""):
            token_id = self._ids.get(symbol)
            if token_id is not None:
                token_ids.append(token_id)
            else:
                token_ids += self._spell(symbol)
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
