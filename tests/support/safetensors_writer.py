"""Writes safetensors files, well-formed or not: it checks nothing, so that hostile files can be written.

Written from the format's specification, apart from `llorch.formats`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, tuple[str, NDArray[Any]]]
"""Type name ("F32", "BF16", "I8", …) and array by tensor name; BF16 and FP8 as their bits, unsigned."""


def encoded(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Float32 values as an array of a float type, rounded to nearest even; BF16 as uint16 bits."""
    if dtype == "F32":
        return values.astype("<f4")
    if dtype == "F16":
        return values.astype("<f2")
    if dtype == "F64":
        return values.astype("<f8")
    if dtype != "BF16":
        raise ValueError(f"{dtype} is not a float type that is written here")
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def safetensors_bytes(header: Mapping[str, Any] | bytes, data: bytes, *, alignment: int = 8) -> bytes:
    """A file of this header and data; spaces after the header let the data begin at a multiple of `alignment`."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % alignment)
    return struct.pack("<Q", len(text)) + text + data


def write_safetensors(
    path: Path, tensors: Tensors, *, metadata: Mapping[str, str] | None = None, alignment: int = 8
) -> Path:
    """A file that holds the tensors one after the other; returns `path`."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    parts, begin = [], 0
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        offsets = [begin, begin + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        parts.append(raw)
        begin += len(raw)
    path.write_bytes(safetensors_bytes(header, b"".join(parts), alignment=alignment))
    return path
