"""Metadata of a GGUF file as raw bytes: read key by key to be copied, or packed from Python values.

Nothing is decoded, so copying the 280,147 merges of a Llama-3 vocabulary costs a fraction of a second.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    21: "Q2_K_S", 25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16",
}  # fmt: skip
"""Values of `general.file_type`. Source: `llama_ftype` in llama.cpp's llama.h."""


class GGUFKeysError(Exception):
    """The file is not a GGUF file of version 2 or 3 in little-endian byte order."""


def read_keys(path: Path) -> dict[str, bytes]:
    """Every key of a file: its value type, and its value as raw bytes.

    Raises:
        GGUFKeysError: the file is malformed.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise GGUFKeysError(f"{path} is empty") from None
    with data:
        try:
            return _keys(data)
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise GGUFKeysError(f"{path} is malformed: {error or type(error).__name__}") from None
        except GGUFKeysError as error:
            raise GGUFKeysError(f"{path}: {error}") from None


def file_type(path: Path) -> str:
    """What a file's `general.file_type` says, such as ``"Q4_K_M"``; ``"unknown"`` where it says nothing known."""
    try:
        kind, number = struct.unpack("<II", read_keys(path)["general.file_type"])
    except (GGUFKeysError, KeyError, struct.error):
        return "unknown"
    return _FILE_TYPES.get(number, "unknown") if kind == UINT32 else "unknown"


def _keys(data: mmap.mmap) -> dict[str, bytes]:
    magic, version, _, n_keys = struct.unpack_from("<4sIQQ", data)
    if magic != b"GGUF" or version not in (2, 3):
        raise GGUFKeysError("not a GGUF file of version 2 or 3")
    offset = 24
    found = {}
    for _ in range(n_keys):
        start = _after_string(data, offset)
        key = data[offset + 8 : start].decode()
        (kind,) = struct.unpack_from("<I", data, start)
        offset = _after_value(data, start + 4, kind)
        found[key] = data[start:offset]
    return found


def _after_string(data: mmap.mmap, offset: int) -> int:
    (length,) = struct.unpack_from("<Q", data, offset)
    end: int = offset + 8 + length
    if end > len(data):
        raise GGUFKeysError(f"the string at byte {offset} runs past the end of the file")
    return end


def _after_value(data: mmap.mmap, offset: int, kind: int) -> int:
    if kind == STRING:
        return _after_string(data, offset)
    if kind != ARRAY:
        end = offset + _SCALAR_BYTES[kind]
    else:
        item, count = struct.unpack_from("<IQ", data, offset)
        end = offset + 12
        if item == STRING:
            for _ in range(count):
                end = _after_string(data, end)
        else:
            end += _SCALAR_BYTES[item] * count
    if end > len(data):
        raise GGUFKeysError(f"the value at byte {offset} runs past the end of the file")
    return end


def array_length(value: bytes) -> int:
    """Number of entries of an array from `read_keys`."""
    kind, _, count = struct.unpack_from("<IIQ", value)
    if kind != ARRAY:
        raise GGUFKeysError(f"an array was expected, found value type {kind}")
    return int(count)


def extend_array(value: bytes, count: int, entries: bytes) -> bytes:
    """An array from `read_keys` with the `count` packed `entries` appended."""
    kind, item, length = struct.unpack_from("<IIQ", value)
    return struct.pack("<IIQ", kind, item, length + count) + value[16:] + entries


def string(text: str) -> bytes:
    """A length-prefixed string."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def pack(value: str | int | float) -> bytes:
    """Type and value of a string, an unsigned integer or a float."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + string(value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    return struct.pack("<If", FLOAT32, value)
