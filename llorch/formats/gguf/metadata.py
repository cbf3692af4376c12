"""The key-value part of a GGUF header. Arrays are located at once and decoded at their first access.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llorch.errors import LlorchError
from llorch.formats.gguf.reader import U64, HeaderReader
from llorch.formats.printed import quote
from llorch.formats.protocol import MetadataValue

BOOL, STRING, ARRAY = 7, 8, 9

NUMBERS: dict[int, tuple[str, struct.Struct, str]] = {
    0: ("uint8", struct.Struct("<B"), "u1"),
    1: ("int8", struct.Struct("<b"), "i1"),
    2: ("uint16", struct.Struct("<H"), "<u2"),
    3: ("int16", struct.Struct("<h"), "<i2"),
    4: ("uint32", struct.Struct("<I"), "<u4"),
    5: ("int32", struct.Struct("<i"), "<i4"),
    6: ("float32", struct.Struct("<f"), "<f4"),
    BOOL: ("bool", struct.Struct("<B"), "u1"),
    10: ("uint64", struct.Struct("<Q"), "<u8"),
    11: ("int64", struct.Struct("<q"), "<i8"),
    12: ("float64", struct.Struct("<d"), "<f8"),
}
"""Value types of fixed size by number: name, struct layout of a value, NumPy type of an array."""

# Far above every real file; they bound time and memory for sparse files that claim to be terabytes long.
MAX_KEYS = 65_536
MAX_KEY_BYTES = 65_535
MAX_TEXT_BYTES = 1 << 24
MAX_ARRAY_BYTES = 1 << 28
MAX_ARRAY_STRINGS = 1 << 22

MIN_PAIR_BYTES = 8 + 1 + 4 + 1
"""Key length, one byte of key, value type, one byte of value."""


@dataclass(frozen=True, slots=True)
class ArrayLocation:
    """Location of an array: number of its element type, count, and byte range of its elements."""

    element_type: int
    n_elements: int
    start: int
    end: int


class GGUFMetadata(Mapping[str, MetadataValue]):
    """Metadata by key. Scalars are read at once; an array is decoded at its first access and kept.

    Callers share the values: do not change a list.
    """

    def __init__(self, reader: HeaderReader, n_keys: int) -> None:
        """Read `n_keys` key-value pairs at the cursor of `reader`.

        Raises:
            GGUFError: naming the key and what is wrong with it.
        """
        self._reader: HeaderReader | None = reader
        self._types: dict[str, str] = {}
        self._values: dict[str, MetadataValue] = {}
        self._arrays: dict[str, ArrayLocation] = {}
        self._pairs: dict[str, tuple[int, int]] = {}
        self._n_strings = 0
        for index in range(n_keys):
            start = reader.offset
            key = reader.name(f"the name of metadata key {index}", MAX_KEY_BYTES)
            if key in self._types:
                raise reader.error(f"metadata key {quote(key)} appears twice")
            self._read_value(reader, key)
            self._pairs[key] = start, reader.offset

    def __getitem__(self, key: str) -> MetadataValue:
        if key not in self._values and key in self._arrays:
            self._values[key] = self._decode(key, self._arrays[key])
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __contains__(self, key: object) -> bool:
        return key in self._types

    def value_type(self, key: str) -> str:
        """The stored type as GGUF spells it, e.g. ``"uint32"`` or ``"array of string"``."""
        return self._types[key]

    def integer(self, key: str) -> int | None:
        """The value if it is a whole number and no bool, else None; arrays are not decoded."""
        value = self._values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def pair(self, key: str) -> bytes:
        """The key with its type and value, as in the file."""
        start, end = self._pairs[key]
        return self._open_reader(key).buffer[start:end]

    def release(self) -> None:
        """Release the file; arrays that are not decoded yet cannot be read afterwards."""
        self._reader = None

    def _read_value(self, reader: HeaderReader, key: str) -> None:
        what = f"metadata key {quote(key)}"
        value_type = reader.u32(f"the value type of {what}")
        if value_type in NUMBERS:
            name, layout, _ = NUMBERS[value_type]
            value = reader.unpack(layout, what)
            if value_type == BOOL:
                if value not in (0, 1):
                    raise reader.error(f"{what} is a bool stored as {value}; 0 or 1 was expected")
                value = bool(value)
            self._types[key], self._values[key] = name, value
        elif value_type == STRING:
            self._types[key], self._values[key] = "string", reader.text(what, MAX_TEXT_BYTES)
        elif value_type == ARRAY:
            self._locate_array(reader, key, what)
        else:
            raise reader.error(f"{what} has unknown value type {value_type}; 0 to 12 are known")

    def _locate_array(self, reader: HeaderReader, key: str, what: str) -> None:
        element_type = reader.u32(f"the element type of {what}")
        n_what = f"the number of elements of {what}"
        if element_type in NUMBERS:
            name, layout, _ = NUMBERS[element_type]
            n_elements = reader.count(n_what, layout.size, MAX_ARRAY_BYTES // layout.size)
            start = reader.offset
            reader.offset += n_elements * layout.size
        elif element_type == STRING:
            name = "string"
            n_elements = reader.count(n_what, U64.size, MAX_ARRAY_STRINGS - self._n_strings)
            self._n_strings += n_elements
            start = reader.offset
            reader.offset = _end_of_strings(reader, n_elements, what)
        elif element_type == ARRAY:
            raise reader.error(f"{what} is an array of arrays, which no Llama file uses")
        else:
            raise reader.error(f"{what} is an array of unknown type {element_type}; 0 to 12 are known")
        self._types[key] = f"array of {name}"
        self._arrays[key] = ArrayLocation(element_type, n_elements, start, reader.offset)

    def _decode(self, key: str, array: ArrayLocation) -> MetadataValue:
        reader = self._open_reader(key)
        if array.element_type == STRING:
            return _strings(reader, array, f"metadata key {quote(key)}")
        dtype = NUMBERS[array.element_type][2]
        values: NDArray[np.generic] = np.frombuffer(reader.buffer[array.start : array.end], dtype)
        if array.element_type == BOOL:
            if values.size and int(values.max()) > 1:
                raise reader.error(f"metadata key {quote(key)} holds a bool that is neither 0 nor 1")
            values = values.view(np.bool_)
        return values

    def _open_reader(self, key: str) -> HeaderReader:
        if self._reader is None:
            raise LlorchError(f"metadata key {quote(key)} cannot be read any more: its file is closed")
        return self._reader


def _end_of_strings(reader: HeaderReader, n_strings: int, what: str) -> int:
    """Offset after `n_strings` length-prefixed strings: one pass over the lengths, nothing is decoded."""
    length_of, buffer, end = U64.unpack_from, reader.buffer, reader.n_bytes
    offset = reader.offset
    last = end - U64.size
    for index in range(n_strings):
        if offset > last:
            raise reader.error(f"the file ends before element {index} of {what} ({n_strings} elements)")
        n_bytes = length_of(buffer, offset)[0]
        offset += 8 + n_bytes
        if offset > end:
            raise reader.error(
                f"element {index} of {what} has {n_bytes} bytes, {end - offset + n_bytes} remain"
            )
    return offset


def _strings(reader: HeaderReader, array: ArrayLocation, what: str) -> list[bytes]:
    """Decode the strings that `_end_of_strings` has measured."""
    length_of, buffer = U64.unpack_from, reader.buffer
    strings = []
    offset = array.start
    try:
        for _ in range(array.n_elements):
            start = offset + 8
            offset = start + length_of(buffer, offset)[0]
            strings.append(buffer[start:offset])
    except (struct.error, OverflowError, IndexError):
        offset = -1
    if offset != array.end:
        raise reader.error(f"{what} changed while the file was open")
    return strings
