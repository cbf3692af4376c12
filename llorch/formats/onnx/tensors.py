"""Tensors of an ONNX file: numbers in the message or in another file, as views; their sizes are checked first.

Source: `TensorProto` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llorch.errors import shown
from llorch.formats.onnx.budget import Budget
from llorch.formats.onnx.dtypes import DTYPES, Dtype
from llorch.formats.onnx.external import ExternalFiles
from llorch.formats.onnx.graph import OnnxTensor
from llorch.formats.onnx.varints import decode_varints
from llorch.formats.printed import quote
from llorch.formats.protobuf import BYTES, FIXED_32, FIXED_64, VARINT, Field, Message

MAX_DIMS = 16
MAX_COPIED_BYTES = 1 << 22
"""Of numbers that cannot be viewed in the file: variable-length integers, and fields in several pieces."""

_DIMS, _DATA_TYPE, _SEGMENT, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 3, 8, 9, 13, 14
_TYPED_FIELDS = {
    4: "float_data",
    5: "int32_data",
    6: "string_data",
    7: "int64_data",
    10: "double_data",
    11: "uint64_data",
}
_FIXED_FIELDS = {"float_data": FIXED_32, "double_data": FIXED_64}
_SINGLE = (_DATA_TYPE, _SEGMENT, _NAME, _RAW, _LOCATION)


@dataclass(slots=True)
class _Parts:
    """What stands in a `TensorProto`, nothing of it checked against the rest."""

    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    raw: Field | None = None
    typed: dict[str, list[Field]] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    location: int = 0


def read_tensor(
    message: Message, budget: Budget, files: ExternalFiles, owner: str = "initializer"
) -> OnnxTensor:
    """A tensor; its numbers are a view on the file if they lie there as they are.

    Args:
        message: a `TensorProto`.
        budget: of the file.
        files: which the tensor may name.
        owner: what the tensor is, for messages.

    Raises:
        OnnxError: the message is malformed, or its numbers do not fit its type and shape.
    """
    parts = _read_parts(message, budget)
    what = f"{owner} {quote(parts.name)}"
    dtype = DTYPES.get(parts.data_type)
    if dtype is None:
        raise message.fault(f"{what} has the unknown data type {parts.data_type}")
    for i, dim in enumerate(parts.dims):
        if dim < 0:
            raise message.fault(f"{what} has the dimension {dim} at place {i}; 0 or more was expected")
    if math.prod(parts.dims) >= 1 << 56:
        raise message.fault(f"{what} has the shape {shown(parts.dims)}, of more numbers than any file holds")
    data = _data(message, parts, dtype, files, f"{what} {parts.dims} {dtype.name}")
    return OnnxTensor(parts.name, dtype.name, tuple(parts.dims), data)


def _read_parts(message: Message, budget: Budget) -> _Parts:
    parts = _Parts()
    for part in budget.fields(message, _SINGLE):
        number = part.number
        if number == _DIMS:
            parts.dims += budget.numbers(message, part, MAX_DIMS)
            if len(parts.dims) > MAX_DIMS:
                raise message.fault(f"a tensor at {message.begin} has more than {MAX_DIMS} dimensions")
        elif number == _DATA_TYPE:
            parts.data_type = message.signed(part)
        elif number == _NAME:
            parts.name = message.text(part)
        elif number == _RAW:
            message.message(part)  # checks the wire type
            parts.raw = part
        elif number in _TYPED_FIELDS:
            parts.typed.setdefault(_TYPED_FIELDS[number], []).append(part)
        elif number == _EXTERNAL:
            key, value = read_pair(message.message(part), budget)
            if key in parts.external:
                raise message.fault(
                    f"a tensor at {message.begin} has the external data key {quote(key)} twice"
                )
            parts.external[key] = value
        elif number == _LOCATION:
            parts.location = message.signed(part)
        elif number == _SEGMENT:
            raise message.fault(f"a tensor at {message.begin} is a segment of another, which is not read")
    return parts


def read_pair(message: Message, budget: Budget) -> tuple[str, str]:
    """Key and value of a `StringStringEntryProto`."""
    texts = {1: "", 2: ""}
    for part in budget.fields(message, (1, 2)):
        if part.number in texts:
            texts[part.number] = message.text(part, 1 << 20)
    return texts[1], texts[2]


def _data(
    message: Message, parts: _Parts, dtype: Dtype, files: ExternalFiles, what: str
) -> NDArray[np.uint8]:
    n_elements = math.prod(parts.dims)
    n_bytes = dtype.n_bytes(n_elements)
    has_raw = parts.raw is not None and parts.raw.end > parts.raw.value
    inside = [f"`{name}`" for name in parts.typed] + ["`raw_data`"] * has_raw
    if len(inside) > 1 or (inside and parts.location):
        others = [*inside[1:], *(["another file"] if parts.location else [])]
        raise message.fault(f"{what} has its numbers twice: in {inside[0]} and in {' and '.join(others)}")
    if parts.location not in (0, 1):
        raise message.fault(f"{what} has the data location {parts.location}; 0 or 1 was expected")
    if dtype.name == "string":
        if parts.location or has_raw:
            raise message.fault(f"{what} has strings outside `string_data`")
        return np.zeros(0, np.uint8)
    if parts.location:
        return files.data(parts.external, n_bytes, what)
    if parts.typed:
        ((name, fields),) = parts.typed.items()
        if name != dtype.typed_field:
            raise message.fault(
                f"{what} has its numbers in `{name}`; `{dtype.typed_field}` or `raw_data` was expected"
            )
        return _typed_data(message, fields, dtype, n_elements, what)
    found = 0 if parts.raw is None else parts.raw.end - parts.raw.value
    if found != n_bytes:
        raise message.fault(f"{what} has {found} bytes in `raw_data`; its type and shape need {n_bytes}")
    return np.frombuffer(
        message.buffer, np.uint8, n_bytes, parts.raw.value if parts.raw is not None and n_bytes else 0
    )


def _typed_data(
    message: Message, fields: list[Field], dtype: Dtype, n_elements: int, what: str
) -> NDArray[np.uint8]:
    """Numbers in a repeated field of their own type: packed into bytes, or a field for each."""
    n_bytes = dtype.n_bytes(n_elements)
    if (wire_type := _FIXED_FIELDS.get(dtype.typed_field)) is not None:
        pieces = [_fixed_piece(message, part, wire_type) for part in fields]
        found = sum(len(piece) for piece in pieces)
        if found != n_bytes:
            raise message.fault(
                f"{what} has {found} bytes in `{dtype.typed_field}`; its type and shape need {n_bytes}"
            )
        if len(pieces) == 1:
            return pieces[0]
        _check_copied(message, found, what)
        return np.concatenate(pieces)
    n_expected = n_bytes if dtype.bits < 6 else n_elements
    _check_copied(message, sum(part.end - part.value for part in fields if part.wire_type == BYTES), what)
    found_numbers = [_varint_piece(message, part, what) for part in fields]
    n_found = sum(map(len, found_numbers))
    if n_found != n_expected:
        raise message.fault(
            f"{what} has {n_found} numbers in `{dtype.typed_field}`; {n_expected} were expected"
        )
    return _narrowed(message, found_numbers, dtype, what)


def _fixed_piece(message: Message, part: Field, wire_type: int) -> NDArray[np.uint8]:
    if part.wire_type == BYTES:
        n = part.end - part.value
        return np.frombuffer(message.buffer, np.uint8, n, part.value if n else 0)
    if part.wire_type != wire_type:
        raise message.fault(f"field {part.number} has wire type {part.wire_type} at offset {part.end}")
    size = 4 if wire_type == FIXED_32 else 8
    return np.frombuffer(message.buffer, np.uint8, size, part.end - size)


def _varint_piece(message: Message, part: Field, what: str) -> NDArray[np.uint64]:
    if part.wire_type == VARINT:
        return np.array([part.value], np.uint64)
    if part.wire_type != BYTES:
        raise message.fault(f"field {part.number} has wire type {part.wire_type} at offset {part.end}")
    n = part.end - part.value
    values = decode_varints(np.frombuffer(message.buffer, np.uint8, n, part.value if n else 0))
    if values is None:
        raise message.fault(f"{what} has malformed numbers at offset {part.value}")
    return values


def _narrowed(
    message: Message, pieces: Iterable[NDArray[np.uint64]], dtype: Dtype, what: str
) -> NDArray[np.uint8]:
    """Numbers of 64 bits as their type stores them."""
    values = np.concatenate([*pieces, np.zeros(0, np.uint64)])
    size = max(1, dtype.bits // 8)
    is_signed = dtype.name.startswith("int") and dtype.bits >= 8
    low, high = (-1 << 8 * size - 1, 1 << 8 * size - 1) if is_signed else (0, 1 << 8 * size)
    if dtype.name == "bool":
        high = 2
    signed = values.view(np.int64)
    if size < 8 and len(values) and not low <= int(signed.min()) <= int(signed.max()) < high:
        raise message.fault(f"{what} has numbers that do not fit its type")
    return values.astype(f"<u{size}").view(np.uint8)


def _check_copied(message: Message, n_bytes: int, what: str) -> None:
    if n_bytes > MAX_COPIED_BYTES:
        raise message.fault(
            f"{what} has {n_bytes} bytes that would have to be copied; at most {MAX_COPIED_BYTES} are: write it as "
            "`raw_data`"
        )
