"""The vocabulary of a GGUF file, checked: tokens, their types, and the ids of special tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, described
from llorch.text.pretokenize import PreTokenizer, choose_pre_tokenizer
from llorch.text.special_texts import CONTROL_TEXTS, END_IS_NO_END, END_TEXTS, KEEP_SPACE_TEXTS, S_IS_NO_END
from llorch.text.vocab_keys import PREFIX, VocabKeys


class TokenType(IntEnum):
    """Kind of a token; numbers as in `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


SPECIAL_TYPES = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
"""Types of the tokens that are found in a text before anything else."""

_NOT_TEXT = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a tokenizer model implies: values of absent keys, and which keys it has."""

    bos_id: int
    eos_id: int
    unk_id: int | None
    has_space_prefix: bool
    has_merges: bool


_MODELS = {
    "llama": _Defaults(bos_id=1, eos_id=2, unk_id=0, has_space_prefix=True, has_merges=False),
    "gpt2": _Defaults(bos_id=11, eos_id=11, unk_id=None, has_space_prefix=False, has_merges=True),
}
"""Tokenizer models llorch can run, by `tokenizer.ggml.model`."""

_END_IDS = ("eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")
"""Optional ids that end a generation, as EOS does."""

_OTHER_IDS = (
    "seperator_token_id", "padding_token_id", "cls_token_id", "mask_token_id", "fim_pre_token_id",
    "fim_suf_token_id", "fim_mid_token_id", "prefix_token_id", "suffix_token_id", "middle_token_id",
)  # fmt: skip
"""Optional ids that llorch does not use; it says so if they are odd (`seperator` is GGUF's spelling)."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """All tokens of a model, read-only.

    Attributes:
        model: tokenizer model, `tokenizer.ggml.model`.
        tokens: raw text of each token as the file spells it (``▁`` for a space, ``<0x0A>`` for a byte).
        scores: float32 (n_vocab,); higher merges first. Zeros when the file has none.
        types: one `TokenType` value per token.
        bos_id: id that begins a text, or None.
        eos_id: id that ends a text, or None.
        unk_id: id for text that the vocabulary cannot spell, or None.
        add_bos: whether the model expects BOS in front of a text.
        add_eos: whether the model expects EOS behind a text.
        add_space_prefix: whether a text is tokenized with one space in front of it.
        eog_ids: ids that end a generation: EOS and its relatives (end of turn, end of message, ...).
        merges: of a byte-level BPE, best first; each the raw texts of two tokens with a space between.
        pre: the pre-tokenizer of a byte-level BPE.
        stripping_ids: special tokens that swallow the white space behind them.

    Source: llama.cpp `llama_vocab::impl::load`.
    """

    model: str
    tokens: list[bytes]
    scores: NDArray[np.float32]
    types: bytes
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    eog_ids: frozenset[int]
    merges: list[bytes]
    pre: PreTokenizer | None
    stripping_ids: frozenset[int]

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def is_control(self, token_id: int) -> bool:
        """Whether ordinary text does not contain the token; such tokens are shown only on request."""
        return self.types[token_id] in (TokenType.CONTROL, TokenType.UNKNOWN)

    def text_pieces(self) -> dict[str, int]:
        """Ids of the tokens that text can become. The last of equal tokens counts, as in llama.cpp."""
        pieces: dict[str, int] = {}
        for token_id, (token, token_type) in enumerate(zip(self.tokens, self.types, strict=True)):
            if token_type in _NOT_TEXT:
                continue
            try:
                pieces[token.decode()] = token_id
            except UnicodeDecodeError:  # no valid text contains it; it can still be generated
                continue
        return pieces

    @classmethod
    def from_metadata(
        cls,
        metadata: Mapping[str, object],
        oddities: list[str] | None = None,
        override_pre: str | None = None,
    ) -> Vocabulary:
        """Read and check the `tokenizer.ggml.*` keys of a model file.

        Args:
            metadata: string arrays are lists of bytes, numeric arrays NumPy arrays, the rest Python scalars.
            oddities: what is odd in the file but does not keep it from being used is appended, a clause for each.
            override_pre: name of the pre-tokenizer, in place of `tokenizer.ggml.pre`.

        Raises:
            ModelError: a key is missing, malformed or contradicts another; the message names it.
            InputError: there is no pre-tokenizer named `override_pre`.
        """
        keys = VocabKeys(metadata, [] if oddities is None else oddities)
        model = _model_name(keys)
        defaults = _MODELS[model]
        tokens = _tokens(keys)
        n_vocab = len(tokens)
        types = _types(keys, tokens)
        bos_id = keys.special_id("bos_token_id", n_vocab, defaults.bos_id)
        eos_id = keys.special_id("eos_token_id", n_vocab, defaults.eos_id)
        pre = _pre_tokenizer(keys, override_pre) if defaults.has_merges else None
        if pre is None and override_pre is not None:
            keys.oddities.append("override_pre is ignored, as only byte-level BPE has pre-tokenizers")
        add_bos = keys.flag("add_bos_token", pre is None or pre.adds_bos)
        add_eos = keys.flag("add_eos_token", False)
        for name, token_id, is_added in (("BOS", bos_id, add_bos), ("EOS", eos_id, add_eos)):
            if is_added and token_id is None:
                keys.oddities.append(f"texts get no {name}, as there is none")
        unk_id = keys.special_id("unknown_token_id", n_vocab, defaults.unk_id)
        end_ids = {eos_id, *(keys.special_id(name, n_vocab) for name in _END_IDS)}
        end_ids.update(keys.ids("eos_token_ids", n_vocab))
        for name in _OTHER_IDS:
            keys.special_id(name, n_vocab)
        eog_ids = _end_of_generation(tokens, types, end_ids)
        if not eog_ids:
            keys.oddities.append("no token ends a text")
        return cls(
            model=model,
            tokens=tokens,
            scores=_scores(keys, n_vocab),
            types=bytes(types),
            bos_id=bos_id,
            eos_id=eos_id,
            unk_id=unk_id,
            add_bos=add_bos,
            add_eos=add_eos,
            add_space_prefix=defaults.has_space_prefix and keys.flag("add_space_prefix", True),
            eog_ids=eog_ids,
            merges=keys.strings("merges") if defaults.has_merges else [],
            pre=pre,
            stripping_ids=_stripping_ids(metadata.get("general.name"), tokens, types),
        )


def byte_value(text: bytes) -> int | None:
    """The byte that a byte token spells, e.g. 10 for ``<0x0A>``; None when `text` is not of that form."""
    if len(text) != 6 or not text.startswith(b"<0x") or not text.endswith(b">"):
        return None
    try:
        return bytes.fromhex(text[3:5].decode("ascii"))[0]
    except (ValueError, IndexError):
        return None


def _model_name(keys: VocabKeys) -> str:
    key = PREFIX + "model"
    if "model" not in keys:
        raise ModelError(f"{key}: missing; the model has no tokenizer")
    model = keys.value("model")
    if not isinstance(model, str):
        raise ModelError(f"{key}: expected a string, got {described(model)}")
    if model not in _MODELS:
        supported = ", ".join(repr(name) for name in _MODELS)
        name = repr(model[:40])
        raise ModelError(f"{key}: tokenizer model {name} is not supported yet (supported: {supported})")
    return model


def _pre_tokenizer(keys: VocabKeys, override: str | None) -> PreTokenizer:
    """The pre-tokenizer; says what llama.cpp makes of absent ids, which in most vocabularies is a comma."""
    for name in ("bos_token_id", "eos_token_id"):
        if name not in keys:
            keys.oddities.append(f"{PREFIX}{name} is missing, the default {_MODELS['gpt2'].eos_id} counts")
    return choose_pre_tokenizer(keys, override)


def _tokens(keys: VocabKeys) -> list[bytes]:
    key = PREFIX + "tokens"
    if "tokens" not in keys:
        raise ModelError(f"{key}: missing; the model has no vocabulary")
    tokens = keys.value("tokens")
    if isinstance(tokens, (list, np.ndarray)) and len(tokens) == 0:
        raise ModelError(f"{key}: the vocabulary is empty")
    return keys.strings("tokens")


def _scores(keys: VocabKeys, n_vocab: int) -> NDArray[np.float32]:
    if "scores" not in keys:
        return np.zeros(n_vocab, np.float32)
    scores = keys.numbers("scores", n_vocab, ("float32", "int32")).astype(np.float32)
    is_nan = np.isnan(scores)
    if is_nan.any():
        raise ModelError(f"{PREFIX}scores: the score of token {int(is_nan.argmax())} is not a number")
    return scores


def _types(keys: VocabKeys, tokens: list[bytes]) -> bytearray:
    """One `TokenType` per token, tokens known by their text corrected."""
    types = bytearray([TokenType.NORMAL]) * len(tokens)
    if "token_type" in keys:
        numbers = keys.numbers("token_type", len(tokens), ("int32",))
        is_known = (numbers >= 0) & (numbers <= max(TokenType))
        types[:] = np.where(is_known, numbers, TokenType.UNDEFINED).astype(np.uint8).tobytes()
    for token_id, text in enumerate(tokens):
        if types[token_id] == TokenType.BYTE and byte_value(text) is None:
            raise ModelError(
                f"{PREFIX}token_type: token {token_id} is a byte token, but its text is {text[:20]!r}, "
                "not like b'<0x0A>'"
            )
        if text in CONTROL_TEXTS:
            types[token_id] = TokenType.CONTROL
    return types


def _end_of_generation(tokens: list[bytes], types: bytearray, ids: set[int | None]) -> frozenset[int]:
    """`ids`, and tokens known by their text; those that are no end in this vocabulary get another type."""
    ends = {i: tokens[i] for i in ids if i is not None}
    ends.update((i, text) for i, text in enumerate(tokens) if text in END_TEXTS)
    texts = set(ends.values())
    for text, needed, token_type in (
        (b"<|end|>", END_IS_NO_END, TokenType.USER_DEFINED),
        (b"</s>", S_IS_NO_END, TokenType.NORMAL),
    ):
        if all(texts & some for some in needed):
            for token_id in [i for i in ends if ends[i] == text]:
                types[token_id] = token_type
                del ends[token_id]
    return frozenset(ends)


def _stripping_ids(model_name: object, tokens: list[bytes], types: bytearray) -> frozenset[int]:
    """Files do not say which tokens swallow white space; llama.cpp knows it of Phi-3, by its name."""
    if not isinstance(model_name, str) or not re.search("phi-?3", model_name.lower()):
        return frozenset()
    return frozenset(
        i for i, text in enumerate(tokens) if types[i] in SPECIAL_TYPES and text not in KEEP_SPACE_TEXTS
    )
