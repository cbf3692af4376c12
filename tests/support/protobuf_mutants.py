"""Damaged copies of a protocol buffer whose lengths are right: fields left out, repeated, moved, swapped or changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llorch.errors import ModelError
from llorch.formats.protobuf import BYTES, FIXED_32, FIXED_64, VARINT, Message
from tests.support.onnx_writer import block, integer, key

NUMBERS = [
    0,
    1,
    2,
    7,
    16,
    127,
    128,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
TEXTS = [b"", b"\xff", b"x", b"/", b"..", b"-1", b"\0", b"9" * 30, b"n" * 300]


@dataclass(slots=True)
class _Field:
    """A field; `inner` are its own if it looks like a message, else `content` is what it holds."""

    number: int
    wire_type: int
    content: bytes | int
    inner: list[_Field] | None = None

    def frozen(self) -> _Field:
        """A copy without fields of its own, which may be put anywhere."""
        if self.inner is None:
            return self
        return _Field(self.number, BYTES, b"".join(field.encoded() for field in self.inner))

    def encoded(self) -> bytes:
        if self.inner is not None:
            return block(self.number, b"".join(field.encoded() for field in self.inner))
        if self.wire_type == VARINT:
            return integer(self.number, int(self.content))
        if self.wire_type == BYTES:
            return block(self.number, bytes(self.content))
        size = {FIXED_32: 4, FIXED_64: 8}[self.wire_type]
        return key(self.number, self.wire_type) + int(self.content).to_bytes(size, "little")


def _parsed(message: Message) -> list[_Field]:
    fields = []
    for field in message.fields():
        content: bytes | int = message.raw(field) if field.wire_type == BYTES else field.value
        found = _Field(field.number, field.wire_type, content)
        if field.wire_type == BYTES and content:
            try:
                found.inner = _parsed(message.message(field))
                if found.encoded() != block(field.number, bytes(content)):  # type: ignore[arg-type]
                    found.inner = None
            except ModelError:
                pass
        fields.append(found)
    return fields


def _lists(fields: list[_Field]) -> Iterator[list[_Field]]:
    yield fields
    for field in fields:
        if field.inner is not None:
            yield from _lists(field.inner)


def field_mutants(original: bytes, n: int, *, seed: int) -> Iterator[bytes]:
    """`n` copies of a message, each with a change of one or two fields of any message in it.

    Fields that are read first, such as that of a graph, are rarely hit: there are many more inside.
    """
    rng = np.random.default_rng(seed)
    for _ in range(n):
        fields = _parsed(Message(original, 0, len(original), "", ModelError))
        for _ in range(int(rng.integers(1, 3))):
            _mutate(rng, [each for each in _lists(fields) if each])
        yield b"".join(field.encoded() for field in fields)


def _mutate(rng: np.random.Generator, lists: list[list[_Field]]) -> None:
    home, other = (lists[int(i)] for i in rng.integers(len(lists), size=2))
    at, to = int(rng.integers(len(home))), int(rng.integers(len(other)))
    kind = int(rng.integers(6))
    if kind == 0:
        del home[at]
    elif kind == 1:
        other.insert(to, home[at].frozen())
    elif kind == 2:
        home[at], other[to] = other[to].frozen(), home[at].frozen()
    elif kind == 3:
        home[at] = _Field(home[at].number, VARINT, NUMBERS[rng.integers(len(NUMBERS))])
    elif kind == 4:
        home[at] = _Field(home[at].number, BYTES, TEXTS[rng.integers(len(TEXTS))])
    else:
        home[at] = _Field(int(rng.integers(1, 30)), home[at].wire_type, home[at].content, home[at].inner)
