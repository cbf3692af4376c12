"""The `tokenizer.ggml.*` keys of a file, read as types; what is odd but harmless is noted, not refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.errors import ModelError, described

PREFIX = "tokenizer.ggml."

NONE_IDS = (-1, (1 << 32) - 1, (1 << 64) - 1)
"""Ids that say that there is no such token: -1, signed or as an unsigned number of 32 or 64 bits."""


class VocabKeys:
    """Typed access to the keys of a vocabulary; every error names the key.

    Names stand without `PREFIX`.

    Source: llama.cpp `llama_vocab::impl::load`, which uses the default in place of an id outside the vocabulary, and
    ignores surplus elements. It does so for the `NONE_IDS` too, where llorch takes the file at its word.
    """

    def __init__(self, metadata: Mapping[str, object], oddities: list[str]) -> None:
        """Nothing is read yet.

        Args:
            metadata: string arrays are lists of bytes, numeric arrays NumPy arrays, the rest Python scalars.
            oddities: what is odd is appended, a clause for each.
        """
        self._metadata = metadata
        self.oddities = oddities

    def __contains__(self, name: str) -> bool:
        return PREFIX + name in self._metadata

    def value(self, name: str) -> object:
        """The value under `name`; None when it is absent."""
        return self._metadata.get(PREFIX + name)

    def strings(self, name: str) -> list[bytes]:
        """The array of strings under `name`."""
        key, value = PREFIX + name, self.value(name)
        if name not in self:
            raise ModelError(f"{key}: missing")
        if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
            raise ModelError(f"{key}: expected an array of strings, got {described(value)}")
        return value

    def numbers(self, name: str, n_vocab: int, types: tuple[str, ...]) -> NDArray[Any]:
        """The array of one of `types` under `name`, one element per token; a surplus is left out."""
        key, value = PREFIX + name, self.value(name)
        if not isinstance(value, np.ndarray) or value.dtype.name not in types:
            raise ModelError(f"{key}: expected an array of {' or '.join(types)}, got {described(value)}")
        if len(value) < n_vocab:
            raise ModelError(f"{key}: expected {n_vocab} values, one per token, got {len(value)}")
        if len(value) > n_vocab:
            self.oddities.append(
                f"{key} has {len(value)} values for {n_vocab} tokens, the surplus is ignored"
            )
        return value[:n_vocab]

    def special_id(self, name: str, n_vocab: int, default: int | None = None) -> int | None:
        """The id under `name`, or None if there is no such token.

        Args:
            name: of the key.
            n_vocab: tokens in the vocabulary.
            default: counts when the key is absent, or its id lies outside the vocabulary.
        """
        key, value = PREFIX + name, default
        if name in self:
            found = self.value(name)
            if isinstance(found, bool) or not isinstance(found, int):
                raise ModelError(f"{key}: expected a token id, got {described(found)}")
            if 0 <= found < n_vocab:
                return found
            if found in NONE_IDS:
                self.oddities.append(f"{key} is {found}, which means none")
                return None
            instead = (
                f"the default {default} counts" if default is not None and default < n_vocab else "ignored"
            )
            self.oddities.append(f"{key} {found} lies outside the vocabulary of {n_vocab} tokens, {instead}")
        if value is not None and value >= n_vocab:
            self.oddities.append(
                f"the default {value} of {key} lies outside the vocabulary of {n_vocab} tokens, so there is none"
            )
            return None
        return value

    def ids(self, name: str, n_vocab: int) -> list[int]:
        """The array of ids under `name`, empty when the key is absent; those outside the vocabulary are left out."""
        if name not in self:
            return []
        key, value = PREFIX + name, self.value(name)
        if not isinstance(value, np.ndarray) or value.dtype.name not in ("int32", "uint32"):
            raise ModelError(f"{key}: expected an array of token ids, got {described(value)}")
        inside = value[(value >= 0) & (value < n_vocab)]
        if len(inside) < len(value):
            self.oddities.append(
                f"{len(value) - len(inside)} ids of {key} lie outside the vocabulary of {n_vocab} tokens, ignored"
            )
        return [int(token_id) for token_id in inside]

    def flag(self, name: str, default: bool) -> bool:
        """The truth value under `name`, also as an integer 0 or 1; `default` when the key is absent."""
        if name not in self:
            return default
        key, value = PREFIX + name, self.value(name)
        if not isinstance(value, int) or value not in (0, 1):
            raise ModelError(f"{key}: expected true or false, got {described(value)}")
        if not isinstance(value, bool):
            self.oddities.append(f"{key} is the integer {value}, read as {str(bool(value)).lower()}")
        return bool(value)
