"""The tokens of a vocabulary by id, each put in once, and filled up to the rows of the embedding."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from llorch.errors import ModelError
from llorch.formats.printed import quote
from llorch.formats.protocol import MetadataValue

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens; numbers as in `tokenizer.ggml.token_type`."""

ADDED_SCORE, UNUSED_SCORE = -1000.0, -10_000.0
"""What llama.cpp's converter gives tokens of a SentencePiece vocabulary that were added, or made up."""

MAX_TOKENS = 1 << 22

_CONTROL_TEXTS = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
_CONTROL_MARKS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))


class TokenTable:
    """Texts, kinds and scores of `n_vocab` tokens.

    Source: llama.cpp `conversion/base.py`: kinds of added tokens, and what stands for rows without a token.
    """

    def __init__(self, n_vocab: int, label: str) -> None:
        """All tokens are unused.

        Args:
            n_vocab: rows of the embedding.
            label: the file of the vocabulary, in front of errors.
        """
        if n_vocab > MAX_TOKENS:
            raise ModelError(
                f"{label}: the embedding has {n_vocab} rows; vocabularies may have {MAX_TOKENS} tokens"
            )
        self.n_vocab = n_vocab
        self.label = label
        self.texts: list[str | None] = [None] * n_vocab
        self.types = np.full(n_vocab, UNUSED, np.int32)
        self.scores = np.full(n_vocab, UNUSED_SCORE, np.float32)
        self.ids: dict[str, int] = {}

    def check_size(self, token_ids: Iterable[int]) -> None:
        """Refuse a vocabulary that has more tokens than there are rows."""
        n_tokens = max(token_ids, default=-1) + 1
        if n_tokens > self.n_vocab:
            raise ModelError(
                f"{self.label}: has {n_tokens} tokens, but the embedding has {self.n_vocab} rows; "
                "they belong to different models, or tokens were added without resizing the embedding"
            )

    def put(self, token_id: int, text: str, token_type: int, score: float = 0.0) -> None:
        """Put in a token of the model."""
        if self.texts[token_id] is not None:
            raise ModelError(
                f"{self.label}: token {token_id} is both {quote(str(self.texts[token_id]))} and {quote(text)}"
            )
        self._set(token_id, text, token_type, score)

    def add(self, token_id: int, text: str, *, is_special: bool, score: float) -> None:
        """Put in an added token, in place of the model's own token if there is one."""
        if is_special or text in _CONTROL_TEXTS or _is_marked(text):
            token_type = CONTROL
        else:
            token_type, text = USER_DEFINED, text.replace("▁", " ")
        self._set(token_id, text, token_type, score)

    def metadata(self, with_scores: bool) -> dict[str, MetadataValue]:
        """The keys of tokens, kinds and, where asked for, scores."""
        tokens = [
            b"[PAD%d]" % i if text is None else text.encode("utf-8", "surrogatepass")
            for i, text in enumerate(self.texts)
        ]
        found: dict[str, MetadataValue] = {"tokenizer.ggml.tokens": tokens}
        if with_scores:
            self.scores.flags.writeable = False
            found["tokenizer.ggml.scores"] = self.scores
        self.types.flags.writeable = False
        found["tokenizer.ggml.token_type"] = self.types
        return found

    def _set(self, token_id: int, text: str, token_type: int, score: float) -> None:
        before = self.texts[token_id]
        if before is not None and self.ids.get(before) == token_id:
            del self.ids[before]
        self.texts[token_id] = text
        self.types[token_id] = token_type
        self.scores[token_id] = score
        self.ids[text] = token_id


def _is_marked(text: str) -> bool:
    return any(text.startswith(begin) and text.endswith(end) for begin, end in _CONTROL_MARKS)
