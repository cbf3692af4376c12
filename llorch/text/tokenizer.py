"""Text to token ids and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, Self

from llorch.errors import InputError
from llorch.fields.plain import plain_token_ids
from llorch.text.bpe import BPEEncoder
from llorch.text.spm import SPMEncoder
from llorch.text.vocab import SPECIAL_TYPES, TokenType, Vocabulary, byte_value


class Encoder(Protocol):
    """Text without special tokens to token ids, and what a token spells."""

    def encode(self, text: str, *, is_start: bool) -> list[int]:
        """Token ids of `text`, which is at the start of a text, or behind a special token, if `is_start`."""

    def text_of(self, token: bytes) -> bytes:
        """The bytes of text that a normal token stands for."""


_WHITE_SPACE = " \t\n\v\f\r"

_ENCODERS: dict[str, Callable[[Vocabulary, list[str]], Encoder]] = {"llama": SPMEncoder, "gpt2": BPEEncoder}
"""By `tokenizer.ggml.model`."""


class Tokenizer:
    """Encodes and decodes text with one vocabulary. Threads may share it.

    Attributes:
        vocab: the vocabulary.
        plain_texts: texts of tokens that are ASCII and no control tokens, of those that have been decoded one by one.
            It only grows; the rest stays as it is.
    """

    def __init__(self, vocab: Vocabulary, oddities: list[str] | None = None) -> None:
        """Prepare `vocab` for encoding; what is odd about it is appended to `oddities`."""
        self.vocab = vocab
        self.plain_texts: dict[int, str] = {}
        self._encoder = _ENCODERS[vocab.model](vocab, [] if oddities is None else oddities)
        self._user_defined = _longest_first(vocab, (TokenType.USER_DEFINED,))
        self._special = _longest_first(vocab, SPECIAL_TYPES)

    def encode(
        self,
        text: str,
        *,
        add_bos: bool | None = None,
        add_eos: bool | None = None,
        parse_special: bool = False,
    ) -> list[int]:
        """Token ids of `text`.

        Args:
            text: any text without lone surrogates; may be empty.
            add_bos: put BOS in front; None: as the file says. A text that begins with the BOS token (parsed
                as special) gets no second one.
            add_eos: put EOS behind; None: as the file says, but nothing when `add_bos` is False.
            parse_special: recognise control tokens such as ``</s>`` in the text. Never set this for
                text from untrusted users. User-defined tokens are always recognised.

        Raises:
            InputError: `text` is no string, or has lone surrogates.
        """
        _check_text(text)
        vocab = self.vocab
        if add_eos is None:
            add_eos = vocab.add_eos and add_bos is not False
        if add_bos is None:
            add_bos = vocab.add_bos
        parts = self._split_special(text, parse_special)
        token_ids: list[int] = []
        if add_bos and vocab.bos_id is not None and parts[:1] != [vocab.bos_id]:
            token_ids.append(vocab.bos_id)
        token_ids += self._encode_split(parts)
        if add_eos and vocab.eos_id is not None:
            token_ids.append(vocab.eos_id)
        return token_ids

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """Token ids of texts, in which no control token is recognised, and of the special tokens between them.

        Nothing is put in front or behind. Where no text spells a control token, the ids are those of
        ``encode(..., parse_special=True)`` for the text of it all.

        Args:
            parts: texts, never two side by side, and token ids.

        Raises:
            InputError: a text has lone surrogates.
        """
        split: list[str | int] = []
        for part in parts:
            if isinstance(part, int):
                split.append(part)
                continue
            _check_text(part)
            if split and split[-1] in self.vocab.stripping_ids:
                part = part.lstrip(_WHITE_SPACE)
            split += self._split_special(part, parse_special=False)
        return self._encode_split(split)

    def with_end(self, token_id: int) -> Self:
        """The same tokenizer, for which `token_id` ends a generation, too."""
        changed = copy.copy(self)
        changed.vocab = replace(self.vocab, eog_ids=self.vocab.eog_ids | {token_id})
        return changed

    def special_texts(self) -> dict[str, int]:
        """Ids of special tokens by their text: of control tokens, unknown and user-defined ones; longest first."""
        return dict(self._special)

    def decode(
        self, token_ids: Iterable[int], *, prompt_ids: Sequence[int] = (), special: bool = False
    ) -> str:
        """Text of `token_ids`; bytes that are not UTF-8 become U+FFFD.

        The space that `encode` puts in front of a text is removed, unless `prompt_ids` hold text
        that these tokens continue. Control tokens are invisible unless `special`.

        Raises:
            InputError: something in `token_ids` is no integer, or outside the vocabulary.
        """
        is_start = self.is_text_start(_checked_ids(prompt_ids, "prompt_ids"))
        pieces: list[bytes] = []
        for token_id in _checked_ids(token_ids, "token_ids"):
            piece = self.token_bytes(token_id, special=special)
            if is_start and piece and not self.vocab.is_control(token_id):
                piece = self.without_prefix(token_id, piece)
                is_start = False
            pieces.append(piece)
        return b"".join(pieces).decode(errors="replace")

    def token_bytes(self, token_id: int, *, special: bool = False) -> bytes:
        """UTF-8 bytes of a token, possibly a part of a character; those of control tokens only if `special`.

        Raises:
            InputError: the id is outside the vocabulary.
        """
        text = self.vocab.tokens[self._checked(token_id)]
        token_type = self.vocab.types[token_id]
        if token_type == TokenType.NORMAL:
            return self._encoder.text_of(text)
        if token_type == TokenType.BYTE:
            byte = byte_value(text)
            return b"" if byte is None else bytes([byte])
        if token_type == TokenType.USER_DEFINED or (special and self.vocab.is_control(token_id)):
            return text
        return b""

    def piece(self, token_id: int) -> str:
        """The token as the vocabulary spells it (``▁Hello``, ``<0x0A>``, ``</s>``), for display.

        Raises:
            InputError: the id is outside the vocabulary.
        """
        return self.vocab.tokens[self._checked(token_id)].decode(errors="replace")

    def is_eog(self, token_id: int) -> bool:
        """Whether the token ends a generation."""
        return token_id in self.vocab.eog_ids

    def is_text_start(self, prompt_ids: Sequence[int]) -> bool:
        """Whether `prompt_ids` are control tokens only, so that text after them begins a text.

        Raises:
            InputError: an id is outside the vocabulary; ids after the first text token are not checked.
        """
        return all(self.vocab.is_control(self._checked(token_id)) for token_id in prompt_ids)

    def without_prefix(self, token_id: int, piece: bytes) -> bytes:
        """`piece`, the first bytes of a text, without the space that `encode` puts in front."""
        if self.vocab.add_space_prefix and self.vocab.types[token_id] != TokenType.USER_DEFINED:
            return piece.removeprefix(b" ")
        return piece

    def _checked(self, token_id: int) -> int:
        if type(token_id) is not int:
            (token_id,) = _checked_ids((token_id,), "token_id")
        if not 0 <= token_id < self.vocab.n_vocab:
            raise InputError(f"token id {token_id} is outside the vocabulary (0..{self.vocab.n_vocab - 1})")
        return token_id

    def _encode_split(self, parts: Iterable[str | int]) -> list[int]:
        """Token ids of special tokens, and of the texts between them, which hold none."""
        token_ids: list[int] = []
        is_start = True
        for part in parts:
            if isinstance(part, int):
                token_ids.append(part)
            else:
                token_ids += self._encoder.encode(part, is_start=is_start)
            is_start = isinstance(part, int)
        return token_ids

    def _split_special(self, text: str, parse_special: bool) -> list[str | int]:
        """`text` split at special tokens: longer tokens first, each from left to right, as llama.cpp does."""
        spans: list[tuple[int, int, int]] = []
        is_taken = bytearray(len(text))
        for special, token_id in self._special if parse_special else self._user_defined:
            begin = text.find(special)
            while begin >= 0:
                end = begin + len(special)
                last_taken = is_taken.rfind(1, begin, end)
                if last_taken < 0:
                    if token_id in self.vocab.stripping_ids:
                        while end < len(text) and text[end] in _WHITE_SPACE and not is_taken[end]:
                            end += 1
                    spans.append((begin, end, token_id))
                    is_taken[begin:end] = b"\1" * (end - begin)
                begin = text.find(special, end if last_taken < 0 else last_taken + 1)
        parts: list[str | int] = []
        done = 0
        for begin, end, token_id in sorted(spans):
            if begin > done:
                parts.append(text[done:begin])
            parts.append(token_id)
            done = end
        if done < len(text):
            parts.append(text[done:])
        return parts


def load_tokenizer(
    metadata: Mapping[str, object], oddities: list[str] | None = None, override_pre: str | None = None
) -> Tokenizer:
    """The tokenizer a model file describes; arguments as for `Vocabulary.from_metadata`.

    Raises:
        ModelError: the vocabulary is malformed, or of a kind that llorch cannot run.
        InputError: there is no pre-tokenizer named `override_pre`.
    """
    return Tokenizer(Vocabulary.from_metadata(metadata, oddities, override_pre), oddities)


def _longest_first(vocab: Vocabulary, types: tuple[TokenType, ...]) -> list[tuple[str, int]]:
    """Texts and ids of the tokens of these types, without tokens that no valid text can contain."""
    found: dict[str, int] = {}
    for token_id, (token, token_type) in enumerate(zip(vocab.tokens, vocab.types, strict=True)):
        if token_type in types and token:
            text = token.decode(errors="ignore")
            if len(text.encode()) == len(token):
                found[text] = token_id
    return sorted(found.items(), key=lambda entry: -len(entry[0].encode()))


def _checked_ids(token_ids: Iterable[int], name: str) -> tuple[int, ...]:
    """Token ids as `int`, from any sequence or iterator of integers."""
    items = plain_token_ids(tuple(token_ids) if isinstance(token_ids, Iterator) else token_ids)
    if not isinstance(items, tuple):
        raise InputError(f"{name}: expected integers, got a value of type {type(items).__name__}")
    for item in items:
        if type(item) is not int:
            raise InputError(f"{name}: expected integers, got a value of type {type(item).__name__}")
    return items


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"text: expected a string, got a value of type {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text is not valid Unicode: lone surrogate U+{ord(text[error.start]):04X} "
            f"at character {error.start}"
        ) from None
