"""Token ids to text while they arrive, in whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from llorch.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns one stream of token ids into text; its parts, joined, equal `Tokenizer.decode`.

    At most three bytes are held back, and only while they can still become a character; other bytes
    become U+FFFD at once.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = (), *, special: bool = False
    ) -> None:
        """Begin a stream.

        Args:
            tokenizer: where the token ids come from.
            prompt_ids: tokens that the stream continues; if they hold text, a leading space is kept.
            special: show control tokens.
        """
        self._tokenizer = tokenizer
        self._special = special
        self._is_start = tokenizer.is_text_start(prompt_ids)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Text completed by `token_id`; may be empty.

        Raises:
            InputError: the id is outside the vocabulary.
        """
        piece = self._tokenizer.token_bytes(token_id, special=self._special)
        if self._is_start and piece and not self._tokenizer.vocab.is_control(token_id):
            piece = self._tokenizer.without_prefix(token_id, piece)
            self._is_start = False
        text = self._utf8.decode(piece)
        held, _ = self._utf8.getstate()
        if held[:1] == b"\xed" and held[1:] >= b"\xa0":
            # Python's decoder waits for the third byte of a surrogate, which no UTF-8 text contains.
            text += self._utf8.decode(b"", final=True)
        return text

    def finish(self) -> str:
        """End the stream: the bytes held back, as U+FFFD."""
        return self._utf8.decode(b"", final=True)
