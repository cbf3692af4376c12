"""Token ids to text as they arrive: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Sequence

from llorch.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns one stream of token ids into text; its parts, joined, equal `Tokenizer.decode`.

    At most three bytes are held back, and only while they can still become a character; other bytes
    become U+FFFD at once.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int] = (),
        *,
        shown_ids: Collection[int] = (),
    ) -> None:
        """Begin a stream.

        Args:
            tokenizer: where the token ids come from.
            prompt_ids: tokens that the stream continues; if they hold text, a leading space is kept.
            shown_ids: control tokens that are shown.
        """
        self._tokenizer = tokenizer
        self._shown_ids = shown_ids
        self._is_start = tokenizer.is_text_start(prompt_ids)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_holding = False

    def push(self, token_id: int) -> str:
        """Text completed by `token_id`; may be empty.

        Raises:
            InputError: the id is outside the vocabulary.
        """
        is_plain = not self._is_start and not self._is_holding
        if is_plain and (text := self._tokenizer.plain_texts.get(token_id)) is not None:
            return text
        piece = self._tokenizer.token_bytes(token_id, special=token_id in self._shown_ids)
        if self._is_start and piece and not self._tokenizer.vocab.is_control(token_id):
            piece = self._tokenizer.without_prefix(token_id, piece)
            self._is_start = False
        if not self._is_holding and piece.isascii():  # nearly always
            text = piece.decode()
            if is_plain and not self._tokenizer.vocab.is_control(token_id):
                self._tokenizer.plain_texts[token_id] = text
            return text
        text = self._utf8.decode(piece)
        held, _ = self._utf8.getstate()
        self._is_holding = bool(held)
        if held[:1] == b"\xed" and held[1:] >= b"\xa0":
            # Python's decoder waits for the third byte of a surrogate, which no UTF-8 text contains.
            text += self._utf8.decode(b"", final=True)
        return text

    def finish(self) -> str:
        """End the stream: the bytes held back, as U+FFFD."""
        return self._utf8.decode(b"", final=True)


class StopStrings:
    """Finds stop strings in text that arrives in pieces.

    The match that is complete first wins, and among those that end together the longest; so the outcome does
    not depend on how the text was cut into pieces.

    Attributes:
        matched: the stop string that was found.
    """

    def __init__(self, stop: Iterable[str]) -> None:
        self.matched: str | None = None
        self._stop = tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._held = ""

    def push(self, text: str) -> str:
        """Add `text`; return what cannot be part of a stop string any more, or all before the one found."""
        if not self._stop:
            return text
        text = self._held + text
        ends = [
            (begin + len(stop), -len(stop), stop) for stop in self._stop if (begin := text.find(stop)) >= 0
        ]
        if ends:
            end, negative_length, self.matched = min(ends)
            self._held = ""
            return text[: end + negative_length]
        n_held = next(n for n in range(min(len(text), self._longest), -1, -1) if self._may_begin(text, n))
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]

    def finish(self) -> str:
        """What was held back: no more text will come."""
        held, self._held = self._held, ""
        return held

    def _may_begin(self, text: str, n: int) -> bool:
        """Whether the last `n` characters can be the beginning of a stop string."""
        return n == 0 or any(stop.startswith(text[-n:]) for stop in self._stop)


class TextStream:
    """Token ids in, showable text out, for one sequence.

    Attributes:
        text: everything that was given out.
    """

    def __init__(self, detokenizer: Detokenizer, stop: Iterable[str], min_tokens: int = 0) -> None:
        """Begin a text; no stop string is looked for in its first `min_tokens` tokens."""
        self._detokenizer = detokenizer
        self._stop = StopStrings(stop)
        self._n_unsearched = min_tokens
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """Everything given out so far."""
        return "".join(self._pieces)

    @property
    def matched_stop(self) -> str | None:
        """The stop string that ended the text; nothing must be pushed after it."""
        return self._stop.matched

    def push(self, token_id: int) -> str:
        """Text that can be shown now that `token_id` has arrived."""
        if self._n_unsearched:
            self._n_unsearched -= 1
            return self._keep(self._detokenizer.push(token_id))
        return self._keep(self._stop.push(self._detokenizer.push(token_id)))

    def finish(self) -> str:
        """The rest of the text, unless a stop string ended it."""
        if self._stop.matched is not None:
            return ""
        last = self._stop.push(self._detokenizer.finish())
        return self._keep(last if self._stop.matched is not None else last + self._stop.finish())

    def _keep(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text
