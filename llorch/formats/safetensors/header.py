"""The header of a safetensors file: which tensors lie where, checked in full before any of it is used.

Source: https://huggingface.co/docs/safetensors, section "Format".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llorch.errors import SafetensorsError, described, shown
from llorch.formats.json_file import parse_json
from llorch.formats.printed import quote

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 25
MAX_TENSORS = 1 << 16
"""As for GGUF files; 405 billion weights lie in 1,138 tensors."""
MAX_DIMENSIONS = 8
METADATA = "__metadata__"

DTYPE_BITS: Mapping[str, int] = {
    "F32": 32, "F16": 16, "BF16": 16, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    "I8": 8, "U8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64, "BOOL": 8,
}  # fmt: skip
"""Width of an element of every type of the format, whether llorch can run it or not."""


@dataclass(frozen=True, slots=True)
class SafetensorsInfo:
    """What the header says of a tensor.

    Attributes:
        name: as in the file.
        dtype: in the format's spelling, e.g. ``"BF16"``.
        shape: NumPy order.
        begin: offset of the first byte in the file.
        end: offset behind the last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def n_bytes(self) -> int:
        """Size of the data."""
        return self.end - self.begin


def read_header(
    buffer: bytes | memoryview, n_bytes: int, label: str
) -> tuple[dict[str, SafetensorsInfo], dict[str, str]]:
    """Read and check a header.

    Args:
        buffer: the file, or as much of it as its header needs.
        n_bytes: size of the file.
        label: its name, for errors.

    Returns:
        The tensors by name, in the order of their data; and the file's own metadata.

    Raises:
        SafetensorsError: the header is malformed, or does not describe every byte behind it exactly once.
    """
    raw = _raw_header(buffer, n_bytes, label)
    entries = parse_json(raw, f"{label}: the header", SafetensorsError)
    metadata = _metadata(entries.pop(METADATA, {}), label)
    if len(entries) > MAX_TENSORS:
        raise SafetensorsError(f"{label}: has {len(entries)} tensors; at most {MAX_TENSORS} are read")
    start = LENGTH_BYTES + len(raw)
    infos = sorted(
        (_info(name, entry, start, label) for name, entry in entries.items()),
        key=lambda info: (info.begin, info.end),
    )
    _check_layout(infos, start, n_bytes, label)
    return {info.name: info for info in infos}, metadata


def _raw_header(buffer: bytes | memoryview, n_bytes: int, label: str) -> bytes:
    if n_bytes < LENGTH_BYTES:
        raise SafetensorsError(
            f"{label}: has {n_bytes} bytes; a safetensors file begins with the {LENGTH_BYTES} of its header's length"
        )
    length = int.from_bytes(buffer[:LENGTH_BYTES], "little")
    first = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + 1])
    if first not in (b"{", b""):
        raise SafetensorsError(
            f"{label}: is not a safetensors file: its header starts with {first!r} instead of b'{{'"
        )
    if length > n_bytes - LENGTH_BYTES:
        raise SafetensorsError(
            f"{label}: its header claims {length} bytes, but only {n_bytes - LENGTH_BYTES} follow; the file is cut "
            "short or no safetensors file: fetch it again"
        )
    if length > MAX_HEADER_BYTES:
        raise SafetensorsError(f"{label}: its header has {length} bytes; at most {MAX_HEADER_BYTES} are read")
    raw = bytes(buffer[LENGTH_BYTES : LENGTH_BYTES + length])
    if b"\0" in raw:  # UTF-16 and UTF-32, which Python's JSON would take
        raise SafetensorsError(f"{label}: the header is not UTF-8 text")
    return raw


def _metadata(found: Any, label: str) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SafetensorsError(
            f"{label}: {METADATA!r} of the header: expected an object of strings, got {shown(found)}"
        )
    return found


def _info(name: str, entry: Any, start: int, label: str) -> SafetensorsInfo:
    where = f"{label}: tensor {quote(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(
            f"{where}: expected dtype, shape and data_offsets in the header, got {shown(entry)}"
        )
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise SafetensorsError(
            f"{where}: dtype {shown(dtype)} is none of the format's: {', '.join(DTYPE_BITS)}"
        )
    sizes = _whole_numbers(shape, f"{where}: shape")
    if len(sizes) > MAX_DIMENSIONS:
        raise SafetensorsError(f"{where}: has {len(sizes)} dimensions; at most {MAX_DIMENSIONS} are read")
    offsets = _whole_numbers(entry["data_offsets"], f"{where}: data_offsets")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise SafetensorsError(
            f"{where}: data_offsets {shown(list(offsets))} are not a begin and an end behind it"
        )
    bits, n_bytes = math.prod(sizes) * DTYPE_BITS[dtype], offsets[1] - offsets[0]
    if bits != 8 * n_bytes:
        raise SafetensorsError(
            f"{where}: {dtype} of shape {shown(sizes)} takes {bits / 8:.15g} bytes, but data_offsets "
            f"{shown(list(offsets))} hold {n_bytes}"
        )
    return SafetensorsInfo(name, dtype, sizes, start + offsets[0], start + offsets[1])


def _whole_numbers(found: Any, where: str) -> tuple[int, ...]:
    if not isinstance(found, list) or any(type(n) is not int or not 0 <= n < 1 << 63 for n in found):
        raise SafetensorsError(f"{where}: expected a list of whole numbers, got {described(found)}")
    return tuple(found)


def _check_layout(infos: list[SafetensorsInfo], start: int, n_bytes: int, label: str) -> None:
    """Check that the tensors follow each other without overlap or gap, up to the end of the file."""
    ends = itertools.chain([start], (info.end for info in infos))
    for info, end in zip(infos, ends, strict=False):
        if info.begin != end:
            fault = (
                f"begins {end - info.begin} bytes before the end of the one in front of it"
                if info.begin < end
                else f"begins {info.begin - end} bytes behind the end of the one in front of it, a gap"
            )
            raise SafetensorsError(f"{label}: tensor {quote(info.name)}: {fault}")
    end = infos[-1].end if infos else start
    if end != n_bytes:
        fault = "the file is cut short: fetch it again" if end > n_bytes else "the rest belongs to none"
        raise SafetensorsError(f"{label}: its tensors end at byte {end}, but the file has {n_bytes}; {fault}")
