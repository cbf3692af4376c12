"""Byte-level BPE: cut the text into words, then merge the bytes of each word, the first pair of the list first.

Python's own `re` and `unicodedata` do it: on the Llama-3 vocabulary they load as fast as `tokenizers` and encode a
text in half its time; a splitter made with `regex` is no faster than `pretokenize`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from llorch.errors import ModelError
from llorch.text.merge import CACHED_WORD_CHARS, CACHED_WORDS, merged
from llorch.text.vocab import TokenType, Vocabulary

_RARE_BYTES = {*range(9), 11, 12, *range(14, 32), 0xC0, 0xC1, *range(0xF1, 0x100)}
"""Bytes of control characters, of planes without characters, and of no UTF-8: nobody misses their tokens."""


def _alphabet() -> list[str]:
    """The character for each byte: itself where it is visible, else the next one from U+0100 on.

    Source: GPT-2 `bytes_to_unicode`.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


_CHARACTERS = _alphabet()
_OTHER_CHARACTER = re.compile(f"[^{re.escape(''.join(_CHARACTERS))}]")
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}


class BPEEncoder:
    """Text to token ids by ranked merging; safe to use from several threads.

    Text never becomes a control, unknown or byte token by merging. Bytes without a token are left out, as in
    llama.cpp.

    Source: llama.cpp `llm_tokenizer_bpe_session`; same ids.
    """

    def __init__(self, vocab: Vocabulary, oddities: list[str]) -> None:
        if vocab.pre is None:
            raise ModelError(f"a vocabulary of kind {vocab.model!r} needs a pre-tokenizer")
        self._pre = vocab.pre
        self._ids = vocab.text_pieces()
        self._ranks = _ranks(vocab.merges, self._ids, oddities)
        self._word_cached = lru_cache(maxsize=CACHED_WORDS)(self._word)
        _note_odd_tokens(vocab, self._ids, oddities)

    def encode(self, text: str, *, is_start: bool) -> list[int]:
        """Token ids of `text`; where it stands makes no difference."""
        token_ids: list[int] = []
        for word in self._pre.words(text):
            is_cached = len(word) <= CACHED_WORD_CHARS
            token_ids += self._word_cached(word) if is_cached else self._word(word)
        return token_ids

    def text_of(self, token: bytes) -> bytes:
        """The bytes that `token` spells; itself if it is not spelled in byte-level characters."""
        try:
            return bytes([_BYTES[character] for character in token.decode()])
        except (KeyError, UnicodeDecodeError):
            return token

    def _word(self, word: str) -> tuple[int, ...]:
        text = "".join([_CHARACTERS[byte] for byte in word.encode()])
        if self._pre.ignores_merges and (token_id := self._ids.get(text)) is not None:
            return (token_id,)
        ids = self._ids
        return tuple(ids[symbol] for symbol in merged(text, self._ranks, " ") if symbol in ids)


def _ranks(merges: list[bytes], ids: dict[str, int], oddities: list[str]) -> dict[str, int]:
    """Rank of each merge that makes a token, under its text: the pair with a space between; the first of equals."""
    texts = [merge.decode(errors="replace") for merge in merges]
    ranks = {
        text: rank
        for rank, text in zip(range(len(texts) - 1, -1, -1), reversed(texts), strict=True)
        if text.find(" ", 1, -1) > 0 and text.replace(" ", "", 1) in ids
    }
    if n_odd := len(merges) - len(ranks):
        oddities.append(
            f"{n_odd} of {len(merges)} merges count for nothing: they are no pair, make no token, or come twice"
        )
    return ranks


def _note_odd_tokens(vocab: Vocabulary, ids: dict[str, int], oddities: list[str]) -> None:
    if _OTHER_CHARACTER.search("".join(ids)):
        odd = [
            token_id
            for text, token_id in ids.items()
            if vocab.types[token_id] == TokenType.NORMAL and _OTHER_CHARACTER.search(text)
        ]
        if odd:
            oddities.append(
                f"{len(odd)} tokens are not spelled in byte-level characters, the first is {odd[0]}"
            )
    missing = [byte for byte in range(256) if _CHARACTERS[byte] not in ids and byte not in _RARE_BYTES]
    if missing:
        oddities.append(
            f"{len(missing)} bytes have no token, texts lose them; the first is 0x{missing[0]:02X}"
        )
