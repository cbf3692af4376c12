"""Attributes of nodes: one value each, of the kind that the attribute says.

Source: `AttributeProto` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from llorch.formats.onnx.budget import Budget
from llorch.formats.onnx.external import ExternalFiles
from llorch.formats.onnx.graph import AttributeValue, Graph
from llorch.formats.onnx.tensors import read_tensor
from llorch.formats.printed import quote
from llorch.formats.protobuf import BYTES, Field, Message

MAX_NUMBERS = 1 << 20
"""In a list of numbers; larger constants are tensors."""

_NAME, _TYPE, _REFERENCE = 1, 20, 21
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS, _TENSORS, _GRAPHS = range(1, 11)
"""Numbers of the kinds."""

_FIELDS = {
    2: _FLOAT,
    3: _INT,
    4: _STRING,
    5: _TENSOR,
    6: _GRAPH,
    7: _FLOATS,
    8: _INTS,
    9: _STRINGS,
    10: _TENSORS,
    11: _GRAPHS,
}
"""The kind that each field of a value belongs to."""

_LISTS = (_FLOATS, _INTS, _STRINGS, _TENSORS, _GRAPHS)
_NOT_READ = {11: "a sparse tensor", 12: "sparse tensors", 13: "a type", 14: "types"}
_NOT_READ_FIELDS = {14: 13, 15: 14, 22: 11, 23: 12}
"""Kinds that no graph of a Llama model has, and their fields."""

_SINGLE = (_NAME, _TYPE, _REFERENCE, 2, 3, 4, 5, 6)

ReadGraph: TypeAlias = "Callable[[Message], Graph]"


@dataclass(frozen=True, slots=True)
class Reference:
    """The value of an attribute of the call, inside a local function."""

    name: str


def read_attribute(
    message: Message, budget: Budget, files: ExternalFiles, read_graph: ReadGraph
) -> tuple[str, AttributeValue | Reference]:
    """Name and value.

    Args:
        message: an `AttributeProto`.
        budget: of the file.
        files: which tensors may name.
        read_graph: reads a nested graph.

    Raises:
        OnnxError: the message is malformed, its value is not of the kind it says, or of one that is not read.
    """
    name, kind, reference = "", 0, ""
    found: dict[int, list[Field]] = {}
    for part in budget.fields(message, _SINGLE):
        if part.number == _NAME:
            name = message.text(part)
        elif part.number == _TYPE:
            kind = message.signed(part)
        elif part.number == _REFERENCE:
            reference = message.text(part)
        elif part.number in _FIELDS:
            found.setdefault(_FIELDS[part.number], []).append(part)
        elif part.number in _NOT_READ_FIELDS:
            kind = _NOT_READ_FIELDS[part.number]
    what = f"attribute {quote(name)}"
    if not name:
        raise message.fault(f"the attribute at offset {message.begin} has no name")
    if reference:
        return name, Reference(reference)
    if kind in _NOT_READ:
        raise message.fault(f"{what} holds {_NOT_READ[kind]}, which is not read")
    if not kind and len(found) == 1:  # files older than the field
        (kind,) = found
    if not _FLOAT <= kind <= _GRAPHS:
        raise message.fault(f"{what} has the unknown kind {kind}")
    if others := set(found) - {kind}:
        raise message.fault(f"{what} is of kind {kind} and has a value of kind {min(others)}")
    if kind not in found and kind not in _LISTS:
        return name, _default(message, kind, what)
    values = _values(message, kind, found.get(kind, []), budget, files, read_graph)
    return name, values if kind in _LISTS else values[0]


def _default(message: Message, kind: int, what: str) -> AttributeValue:
    """The value of a field that is left out, as newer writers do with zeros."""
    if kind in (_TENSOR, _GRAPH):
        raise message.fault(f"{what} of kind {kind} has no value")
    defaults: dict[int, AttributeValue] = {_FLOAT: 0.0, _INT: 0, _STRING: ""}
    return defaults[kind]


def _values(
    message: Message,
    kind: int,
    fields: list[Field],
    budget: Budget,
    files: ExternalFiles,
    read_graph: ReadGraph,
) -> list[Any]:
    values: list[Any] = []
    for part in fields:
        if kind == _FLOAT:
            values.append(message.float32(part))
        elif kind == _FLOATS:
            values += _floats(message, part)
        elif kind == _INT:
            values.append(message.signed(part))
        elif kind == _INTS:
            values += budget.numbers(message, part, MAX_NUMBERS)
        elif kind in (_STRING, _STRINGS):
            values.append(_text(message.raw(part, 1 << 20)))
        elif kind in (_TENSOR, _TENSORS):
            values.append(read_tensor(message.message(part), budget, files, "the constant"))
        else:
            values.append(read_graph(message.message(part)))
    return values


def _floats(message: Message, part: Field) -> list[float]:
    if part.wire_type != BYTES:
        return [message.float32(part)]
    raw = message.raw(part, 4 * MAX_NUMBERS)
    if len(raw) % 4:
        raise message.fault(
            f"field {part.number} has {len(raw)} bytes at offset {part.value}; floats have 4 each"
        )
    return [float(value) for (value,) in struct.iter_unpack("<f", raw)]


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
