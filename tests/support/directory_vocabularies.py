"""Directories that hold a vocabulary alone, and the keys that are read from them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from llorch.formats.hugging_face.tokenizer import tokenizer_metadata
from tests.support.hf_tokenizers import byte_level, sentencepiece_like

N_VOCAB = 400
"""More rows than the small vocabularies have tokens."""

VARINT, BYTES, FIXED_32 = 0, 2, 5


def read(directory: Path, n_vocab: int = N_VOCAB, config: dict[str, Any] | None = None, **files: Any) -> Any:
    """Write files, and read the keys of the directory.

    Args:
        directory: exists.
        n_vocab: rows of the embedding.
        config: what stands in `config.json`.
        files: content by name, with ``_`` for the dot before the ending: bytes, text, or what becomes JSON.
    """
    for name, content in files.items():
        stem, _, ending = name.rpartition("_")
        path = directory / f"{stem}.{ending}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return tokenizer_metadata(directory, n_vocab, config or {})


def changed(base: str, **parts: Any) -> dict[str, Any]:
    """A small `tokenizer.json` with other parts; those of the model are named ``model_...``."""
    content = byte_level() if base == "bytes" else sentencepiece_like()
    for name, value in parts.items():
        if name.startswith("model_"):
            content["model"][name.removeprefix("model_")] = value
        else:
            content[name] = value
    return content


def split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    """A step that cuts at an expression."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def as_bytes(use_regex: bool = False, **more: Any) -> dict[str, Any]:
    """The step that writes bytes as characters."""
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex, **more}


def sequence(*steps: dict[str, Any], inner: str = "pretokenizers") -> dict[str, Any]:
    """Steps one after the other."""
    return {"type": "Sequence", inner: list(steps)}


def field(number: int, value: int | bytes | float) -> bytes:
    """A field of a protocol buffer: an integer, bytes or a float."""
    if isinstance(value, float):
        return _varint(number << 3 | FIXED_32) + struct.pack("<f", value)
    if isinstance(value, bytes):
        return _varint(number << 3 | BYTES) + _varint(len(value)) + value
    return _varint(number << 3 | VARINT) + _varint(value % (1 << 64))


def piece(text: str, score: float, kind: int = 1) -> bytes:
    """A token of a SentencePiece model."""
    return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))


def trainer(model_type: int = 2, *more: bytes) -> bytes:
    """The settings of the trainer."""
    return field(2, field(3, model_type) + b"".join(more))


def small_model(*more: bytes) -> bytes:
    """A SentencePiece model of 7 tokens."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x41>", 0.0, 6)]
    pieces += [("a", -2.0, 1), ("▁", -3.0, 1), ("▁a", -1.0, 1)]
    return b"".join([*(piece(*entry) for entry in pieces), trainer(), *more])


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
