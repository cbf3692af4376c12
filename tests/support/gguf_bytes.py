"""Builds GGUF bytes by hand, well-formed or not: it checks nothing, so that hostile files can be written.

Written from the format's specification, apart from `llorch.formats`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
FORMATS = {
    UINT8: "B", INT8: "b", UINT16: "H", INT16: "h", UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "B",
    UINT64: "Q", INT64: "q", FLOAT64: "d",
}  # fmt: skip

F32, F16, IQ2_XXS, Q8_0, BF16 = 0, 1, 16, 8, 30


def u32(value: int) -> bytes:
    return struct.pack("<I", value % (1 << 32))


def u64(value: int) -> bytes:
    """A 64-bit word; values beyond its range, or below zero, wrap."""
    return struct.pack("<Q", value % (1 << 64))


def string(text: str | bytes, length: int | None = None) -> bytes:
    """A string with its length in front, or with another length than its own."""
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw) if length is None else length) + raw


def value(kind: int, item: object) -> bytes:
    """One scalar without its type."""
    if kind == STRING:
        assert isinstance(item, str | bytes)
        return string(item)
    return struct.pack("<" + FORMATS[kind], item)


def pair(key: str | bytes, kind: int, item: object) -> bytes:
    """A key with a scalar."""
    return string(key) + u32(kind) + value(kind, item)


def array(key: str | bytes, kind: int, items: Sequence[object], *, count: int | None = None) -> bytes:
    """A key with an array, or with another count than its own."""
    n = len(items) if count is None else count
    return string(key) + u32(ARRAY) + u32(kind) + u64(n) + b"".join(value(kind, item) for item in items)


def info(
    name: str | bytes, dims: Sequence[int], kind: int = F32, offset: int = 0, *, n_dims: int | None = None
) -> bytes:
    """A tensor info; dims fastest first."""
    n = len(dims) if n_dims is None else n_dims
    return string(name) + u32(n) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


@dataclass
class GGUFBytes:
    """The parts of a file; `build` puts them together."""

    magic: bytes = b"GGUF"
    version: bytes = u32(3)
    pairs: list[bytes] = field(default_factory=list)
    infos: list[bytes] = field(default_factory=list)
    data: bytes = b""
    n_tensors: int | None = None
    n_keys: int | None = None
    alignment: int = 32

    def header(self) -> bytes:
        n_tensors = len(self.infos) if self.n_tensors is None else self.n_tensors
        n_keys = len(self.pairs) if self.n_keys is None else self.n_keys
        return b"".join([self.magic, self.version, u64(n_tensors), u64(n_keys), *self.pairs, *self.infos])

    def build(self) -> bytes:
        header = self.header()
        return header + bytes(-len(header) % self.alignment) + self.data


ARCHITECTURE = pair("general.architecture", STRING, "llama")


def small_file(*pairs: bytes, infos: Sequence[bytes] = (), data: bytes = b"") -> bytes:
    """A file with an architecture, these pairs and these tensors."""
    return GGUFBytes(pairs=[ARCHITECTURE, *pairs], infos=list(infos), data=data).build()
