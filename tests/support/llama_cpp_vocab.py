"""llama.cpp's own tokenizer, on copies of a vocabulary whose metadata says something else."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp


def write_vocabulary(
    path: Path, source: Path, values: Mapping[str, str], tokens: Mapping[str, str] | None = None
) -> None:
    """Copy a file without tensors, with other strings in it.

    Args:
        path: file to write.
        source: file to copy.
        values: new values of string keys.
        tokens: new texts of tokens by their old ones.
    """
    data = source.read_bytes()
    for key, value in values.items():
        head, _, tail = data.partition(_string(key) + b"\x08\0\0\0")
        n_bytes = int.from_bytes(tail[:8], "little")
        data = head + _string(key) + b"\x08\0\0\0" + _string(value) + tail[8 + n_bytes :]
    for old, new in (tokens or {}).items():
        assert data.count(_string(old)) == 1, old
        data = data.replace(_string(old), _string(new))
    path.write_bytes(data)


def _string(text: str) -> bytes:
    """`text` as GGUF spells it."""
    return len(text.encode()).to_bytes(8, "little") + text.encode()


class LlamaCppTokenizer:
    """Encodes with llama.cpp."""

    def __init__(self, vocab: Any) -> None:
        self.vocab = vocab

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        data = text.encode()
        token_ids = (llama_cpp.llama_token * (len(data) + 8))()
        n = llama_cpp.llama_tokenize(
            self.vocab, data, len(data), token_ids, len(token_ids), add_special, parse_special
        )
        assert n >= 0
        return list(token_ids[:n])

    def token_bytes(self, token_id: int) -> bytes:
        piece = ctypes.create_string_buffer(1024)
        n = llama_cpp.llama_token_to_piece(self.vocab, token_id, piece, len(piece), 0, False)
        assert n >= 0
        return piece.raw[:n]

    def is_eog(self, token_id: int) -> bool:
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token_id))


@contextmanager
def llama_cpp_tokenizer(path: Path) -> Iterator[LlamaCppTokenizer]:
    """The tokenizer of a file; what llama.cpp logs about it is dropped."""

    @llama_cpp.llama_log_callback
    def quiet(*_: Any) -> None:
        return

    llama_cpp.llama_log_set(quiet, None)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, path
    try:
        yield LlamaCppTokenizer(llama_cpp.llama_model_get_vocab(model))
    finally:
        llama_cpp.llama_model_free(model)
        llama_cpp.llama_log_set(llama_cpp.llama_log_callback(0), None)
