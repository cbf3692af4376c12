"""Number types of ONNX tensors: the numbers that files have for them, their names and their sizes.

Source: `TensorProto.DataType` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Dtype(NamedTuple):
    """A type of numbers.

    Attributes:
        name: as ONNX spells it, in small letters.
        bits: of one number; 0 for strings, which have no fixed size.
        numpy: the type of the stored numbers; None where NumPy has none.
        typed_field: which repeated field of `TensorProto` holds the numbers that are not in ``raw_data``.
    """

    name: str
    bits: int
    numpy: np.dtype[Any] | None
    typed_field: str

    def n_bytes(self, n_elements: int) -> int:
        """Size of that many numbers; those of less than a byte are packed."""
        return (n_elements * self.bits + 7) // 8


def _row(name: str, bits: int, numpy: str | None, typed_field: str = "int32_data") -> Dtype:
    return Dtype(name, bits, None if numpy is None else np.dtype(numpy), typed_field)


DTYPES: dict[int, Dtype] = {
    1: _row("float32", 32, "<f4", "float_data"),
    2: _row("uint8", 8, "u1"),
    3: _row("int8", 8, "i1"),
    4: _row("uint16", 16, "<u2"),
    5: _row("int16", 16, "<i2"),
    6: _row("int32", 32, "<i4"),
    7: _row("int64", 64, "<i8", "int64_data"),
    8: _row("string", 0, None, "string_data"),
    9: _row("bool", 8, "?"),
    10: _row("float16", 16, "<f2"),
    11: _row("float64", 64, "<f8", "double_data"),
    12: _row("uint32", 32, "<u4", "uint64_data"),
    13: _row("uint64", 64, "<u8", "uint64_data"),
    14: _row("complex64", 64, "<c8", "float_data"),
    15: _row("complex128", 128, "<c16", "double_data"),
    16: _row("bfloat16", 16, None),
    17: _row("float8e4m3fn", 8, None),
    18: _row("float8e4m3fnuz", 8, None),
    19: _row("float8e5m2", 8, None),
    20: _row("float8e5m2fnuz", 8, None),
    21: _row("uint4", 4, None),
    22: _row("int4", 4, None),
    23: _row("float4e2m1", 4, None),
    24: _row("float8e8m0", 8, None),
    25: _row("uint2", 2, None),
    26: _row("int2", 2, None),
    27: _row("float6e2m3", 6, None),
    28: _row("float6e3m2", 6, None),
}
"""By the number in the file."""

BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}
