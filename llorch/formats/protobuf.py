"""Protocol buffers on the wire: the fields of a message one after the other, each checked against what remains.

ONNX files and SentencePiece models are such messages. Nothing is copied but what is asked for, so that weights of
gigabytes inside a message stay where they are.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from llorch.errors import ModelError
from llorch.formats.gguf.reader import Buffer
from llorch.formats.printed import quote

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""Wire types. Groups (3 and 4) have been given up long since, and no file llorch reads has them."""

_SIZES = {FIXED_64: 8, FIXED_32: 4}
_MAX_VARINT_BYTES = 10


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: of the field in the schema.
        wire_type: `VARINT`, `FIXED_64`, `BYTES` or `FIXED_32`.
        value: of numbers, without sign; of `BYTES` the offset of the first one.
        end: offset behind the field.
    """

    number: int
    wire_type: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message inside a file.

    Attributes:
        buffer: the whole file.
        begin, end: where the message lies in it.
        label: what stands in front of errors, e.g. the path.
        error: what is raised.
    """

    buffer: Buffer
    begin: int
    end: int
    label: str
    error: type[ModelError]

    def fields(self) -> Iterator[Field]:
        """The fields in order.

        Raises:
            ModelError: of the type `error`; the message is malformed.
        """
        at = self.begin
        while at < self.end:
            key, value_at = self._varint(at)
            number, wire_type = key >> 3, key & 7
            if number == 0:
                raise self.fault(f"field number 0 at offset {at}")
            if wire_type == VARINT:
                value, at = self._varint(value_at)
            elif wire_type == BYTES:
                n_bytes, value = self._varint(value_at)
                at = value + n_bytes
            elif wire_type in _SIZES:
                at = value_at + _SIZES[wire_type]
                value = int.from_bytes(self.buffer[value_at:at], "little") if at <= self.end else 0
            else:
                raise self.fault(f"wire type {wire_type} of field {number} at offset {at} is not known")
            if at > self.end:
                raise self.fault(
                    f"field {number} reaches to offset {at}, behind the end of its message at {self.end}"
                )
            yield Field(number, wire_type, value, at)

    def _varint(self, at: int) -> tuple[int, int]:
        """A number of 64 bits, and the offset behind it."""
        value = 0
        for i in range(_MAX_VARINT_BYTES):
            if at + i >= self.end:
                raise self.fault(f"the message ends inside a number at offset {at}")
            byte = self.buffer[at + i]
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at + i + 1
        raise self.fault(f"the number at offset {at} has more than {_MAX_VARINT_BYTES} bytes")

    def fault(self, message: str) -> ModelError:
        """An exception for this file, to be raised by the caller."""
        return self.error(f"{self.label}: {message}")

    def message(self, field: Field) -> Message:
        """The message that a field holds."""
        self._expect(field, BYTES)
        return Message(self.buffer, field.value, field.end, self.label, self.error)

    def raw(self, field: Field, limit: int = 1 << 31) -> bytes:
        """A copy of the bytes that a field holds."""
        self._expect(field, BYTES)
        if field.end - field.value > limit:
            n_bytes = field.end - field.value
            raise self.fault(
                f"field {field.number} has {n_bytes} bytes at offset {field.value}; at most {limit} are read"
            )
        return self.buffer[field.value : field.end]

    def text(self, field: Field, limit: int = 1 << 16) -> str:
        """A string, which must be UTF-8."""
        raw = self.raw(field, limit)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.fault(f"field {field.number} is not valid UTF-8: {quote(raw)}") from error

    def signed(self, field: Field) -> int:
        """An int32, int64 or an enumeration."""
        self._expect(field, VARINT)
        return field.value - (1 << 64) if field.value >> 63 else field.value

    def float32(self, field: Field) -> float:
        """A float of 32 bits."""
        self._expect(field, FIXED_32)
        (value,) = struct.unpack("<f", field.value.to_bytes(4, "little"))
        return float(value)

    def numbers(self, field: Field) -> list[int]:
        """The signed integers of a repeated field: one, or several packed into its bytes."""
        if field.wire_type != BYTES:
            return [self.signed(field)]
        values, at = [], field.value
        inner = self.message(field)
        while at < field.end:
            value, at = inner._varint(at)
            values.append(value - (1 << 64) if value >> 63 else value)
        return values

    def _expect(self, field: Field, wire_type: int) -> None:
        if field.wire_type != wire_type:
            raise self.fault(
                f"field {field.number} has wire type {field.wire_type} at offset {field.value}; "
                f"{wire_type} was expected"
            )
