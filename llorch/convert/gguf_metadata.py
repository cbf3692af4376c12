"""Metadata of a GGUF file about to be written, from Python values; the value types are those of llama.cpp's converter.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import numpy as np

from llorch.convert.gguf_writer import number, text
from llorch.errors import InputError, described
from llorch.formats.gguf.metadata import ARRAY, BOOL, NUMBERS, STRING
from llorch.formats.printed import quote
from llorch.formats.protocol import MetadataValue

UINT32, INT32, FLOAT32 = 4, 5, 6
"""Numbers of value types."""


def pair(key: str, value: MetadataValue) -> bytes:
    """A metadata key with its type and value, as in a file.

    Whole numbers become uint32, negative ones int32, other numbers float32; arrays keep their type.

    Raises:
        InputError: the value fits none of these types, or is no valid text.
    """
    return text(key.encode()) + _typed(key, value)


def _typed(key: str, value: MetadataValue) -> bytes:
    if isinstance(value, bool):
        return number(BOOL, 4) + number(value, 1)
    if isinstance(value, str):
        return number(STRING, 4) + text(_encoded(key, value))
    if isinstance(value, list):
        return number(ARRAY, 4) + number(STRING, 4) + number(len(value), 8) + b"".join(map(text, value))
    if isinstance(value, np.ndarray):
        kind = BOOL if value.dtype == np.bool_ else _KINDS[value.dtype.newbyteorder("<")]
        return number(ARRAY, 4) + number(kind, 4) + number(len(value), 8) + value.tobytes()
    if isinstance(value, float):
        return number(FLOAT32, 4) + np.array(value, "<f4").tobytes()
    if 0 <= value < 1 << 32:
        return number(UINT32, 4) + number(value, 4)
    if -(1 << 31) <= value < 0:
        return number(INT32, 4) + np.array(value, "<i4").tobytes()
    raise InputError(f"metadata key {quote(key)}: {described(value)} does not fit 32 bits")


def _encoded(key: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise InputError(
            f"metadata key {quote(key)}: character {error.start} of the text is half of a pair ({half}), which no file "
            "can hold"
        ) from None


_KINDS = {np.dtype(dtype): kind for kind, (_, _, dtype) in NUMBERS.items() if kind != BOOL}
"""Number of the value type by NumPy type."""
