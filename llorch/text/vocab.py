"""The vocabulary of a GGUF file, checked: tokens, their types, and the ids of special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, described

_PREFIX = "tokenizer.ggml."
_NULL_ID = 0xFFFFFFFF
"""The id that llama.cpp's converters write for an optional special token that does not exist (-1 as uint32)."""


class TokenType(IntEnum):
    """Kind of a token; numbers as in `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class _Defaults:
    """Values of absent keys; they depend on the tokenizer model."""

    bos_id: int
    eos_id: int
    unk_id: int
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool


_MODELS = {
    "llama": _Defaults(bos_id=1, eos_id=2, unk_id=0, add_bos=True, add_eos=False, add_space_prefix=True)
}
"""Tokenizer models llorch can run, by `tokenizer.ggml.model`."""

_END_IDS = ("eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")
"""Optional ids that end a generation, as EOS does."""

_OTHER_IDS = (
    "seperator_token_id", "padding_token_id", "cls_token_id", "mask_token_id", "fim_pre_token_id",
    "fim_suf_token_id", "fim_mid_token_id", "prefix_token_id", "suffix_token_id", "middle_token_id",
)  # fmt: skip
"""Optional ids that llorch does not use, but checks to be in the vocabulary (`seperator` is GGUF's spelling)."""

_END_TEXTS = frozenset(
    text.encode()
    for text in (
        "</s>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>",
        "<|flush|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
        "<end_of_utterance>", "<eos>", "<turn|>", "<｜end▁of▁sentence｜>", "[e~[",
        "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
        "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
    )
)  # fmt: skip
"""Tokens that end a generation whatever the file says about them, because many files are wrong."""

_CONTROL_TEXTS = _END_TEXTS | frozenset(
    text.encode()
    for text in (
        "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
        "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
        "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
        "<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>",
    )
)  # fmt: skip
"""Tokens that are control tokens whatever type the file gives them."""


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

    Source: llama.cpp `llama_vocab::impl::load`. Stricter here: ids outside the vocabulary and arrays of
    another length are errors, where llama.cpp warns or ignores the surplus.
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

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def is_control(self, token_id: int) -> bool:
        """Whether ordinary text does not contain the token; such tokens are shown only on request."""
        return self.types[token_id] in (TokenType.CONTROL, TokenType.UNKNOWN)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object]) -> Vocabulary:
        """Read and check the `tokenizer.ggml.*` keys of a model file.

        Args:
            metadata: string arrays are lists of bytes, numeric arrays NumPy arrays, the rest Python scalars.

        Raises:
            ModelError: a key is missing, malformed or contradicts another; the message names it.
        """
        model = _model_name(metadata)
        defaults = _MODELS[model]
        tokens = _tokens(metadata)
        n_vocab = len(tokens)
        types = _types(metadata, tokens)
        end_ids = [_optional_id(metadata, key, n_vocab) for key in _END_IDS]
        for key in _OTHER_IDS:
            _optional_id(metadata, key, n_vocab)
        eos_id = _special_id(metadata, "eos_token_id", defaults.eos_id, n_vocab)
        eog_ids = {eos_id, *(i for i in end_ids if i is not None)}
        eog_ids.update(i for i, text in enumerate(tokens) if text in _END_TEXTS)
        return cls(
            model=model,
            tokens=tokens,
            scores=_scores(metadata, n_vocab),
            types=types,
            bos_id=_special_id(metadata, "bos_token_id", defaults.bos_id, n_vocab),
            eos_id=eos_id,
            unk_id=_special_id(metadata, "unknown_token_id", defaults.unk_id, n_vocab),
            add_bos=_flag(metadata, "add_bos_token", defaults.add_bos),
            add_eos=_flag(metadata, "add_eos_token", defaults.add_eos),
            add_space_prefix=_flag(metadata, "add_space_prefix", defaults.add_space_prefix),
            eog_ids=frozenset(eog_ids),
        )


def byte_value(text: bytes) -> int | None:
    """The byte that a byte token spells, e.g. 10 for ``<0x0A>``; None when `text` is not of that form."""
    if len(text) != 6 or not text.startswith(b"<0x") or not text.endswith(b">"):
        return None
    try:
        return bytes.fromhex(text[3:5].decode("ascii"))[0]
    except (ValueError, IndexError):
        return None


def _model_name(metadata: Mapping[str, object]) -> str:
    key = _PREFIX + "model"
    if key not in metadata:
        raise ModelError(f"{key}: missing; the file has no tokenizer")
    model = metadata[key]
    if not isinstance(model, str):
        raise ModelError(f"{key}: expected a string, got {described(model)}")
    if model not in _MODELS:
        supported = ", ".join(repr(name) for name in _MODELS)
        name = repr(model[:40])
        raise ModelError(f"{key}: tokenizer model {name} is not supported yet (supported: {supported})")
    return model


def _tokens(metadata: Mapping[str, object]) -> list[bytes]:
    key = _PREFIX + "tokens"
    if key not in metadata:
        raise ModelError(f"{key}: missing; the file has no vocabulary")
    tokens = metadata[key]
    if isinstance(tokens, (list, np.ndarray)) and len(tokens) == 0:
        raise ModelError(f"{key}: the vocabulary is empty")
    if not isinstance(tokens, list) or not all(isinstance(token, bytes) for token in tokens):
        raise ModelError(f"{key}: expected an array of strings, got {described(tokens)}")
    return tokens


def _scores(metadata: Mapping[str, object], n_vocab: int) -> NDArray[np.float32]:
    key = _PREFIX + "scores"
    if key not in metadata:
        return np.zeros(n_vocab, np.float32)
    scores = _numbers(key, metadata[key], n_vocab, ("float32", "int32")).astype(np.float32)
    is_nan = np.isnan(scores)
    if is_nan.any():
        raise ModelError(f"{key}: the score of token {int(is_nan.argmax())} is not a number")
    return scores


def _types(metadata: Mapping[str, object], tokens: list[bytes]) -> bytes:
    """One `TokenType` per token, tokens known by their text corrected."""
    key = _PREFIX + "token_type"
    types = bytearray([TokenType.NORMAL]) * len(tokens)
    if key in metadata:
        numbers = _numbers(key, metadata[key], len(tokens), ("int32",))
        is_known = (numbers >= 0) & (numbers <= max(TokenType))
        types[:] = np.where(is_known, numbers, TokenType.UNDEFINED).astype(np.uint8).tobytes()
    for token_id, text in enumerate(tokens):
        if types[token_id] == TokenType.BYTE and byte_value(text) is None:
            raise ModelError(
                f"{key}: token {token_id} is a byte token, but its text is {text[:20]!r}, not like b'<0x0A>'"
            )
        if text in _CONTROL_TEXTS:
            types[token_id] = TokenType.CONTROL
    return bytes(types)


def _numbers(key: str, value: object, n_vocab: int, types: tuple[str, ...]) -> NDArray[Any]:
    """`value` as a numeric array of one of `types` with one element per token."""
    if not isinstance(value, np.ndarray) or value.dtype.name not in types:
        raise ModelError(f"{key}: expected an array of {' or '.join(types)}, got {described(value)}")
    if len(value) != n_vocab:
        raise ModelError(f"{key}: expected {n_vocab} values, one per token, got {len(value)}")
    return value


def _special_id(metadata: Mapping[str, object], name: str, default: int, n_vocab: int) -> int:
    """The id under `name`, or `default` when the key is absent; inside the vocabulary either way."""
    key = _PREFIX + name
    token_id = metadata.get(key, default)
    if isinstance(token_id, bool) or not isinstance(token_id, int):
        raise ModelError(f"{key}: expected a token id, got {described(token_id)}")
    if not 0 <= token_id < n_vocab:
        origin = "" if key in metadata else " (the default, as the key is absent)"
        raise ModelError(f"{key}: token id {token_id}{origin} is outside the vocabulary of {n_vocab} tokens")
    return token_id


def _optional_id(metadata: Mapping[str, object], name: str, n_vocab: int) -> int | None:
    """The id under `name`; None when the key is absent or says that there is no such token."""
    value = metadata.get(_PREFIX + name, _NULL_ID)
    if isinstance(value, int) and value == _NULL_ID:
        return None
    return _special_id(metadata, name, _NULL_ID, n_vocab)


def _flag(metadata: Mapping[str, object], name: str, default: bool) -> bool:
    value = metadata.get(_PREFIX + name, default)
    if not isinstance(value, bool):
        raise ModelError(f"{_PREFIX}{name}: expected true or false, got {described(value)}")
    return value
