"""Inputs and outputs of a graph: names, number types and shapes.

Source: `ValueInfoProto` and `TypeProto` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from llorch.formats.onnx.budget import Budget
from llorch.formats.onnx.dtypes import DTYPES
from llorch.formats.onnx.graph import ValueInfo
from llorch.formats.protobuf import Message


def read_value_info(message: Message, budget: Budget) -> ValueInfo:
    """An input or output; of types other than tensors the name only.

    Raises:
        OnnxError: the message is malformed or has no name.
    """
    name, dtype, shape = "", None, None
    for part in budget.fields(message, (1, 2)):
        if part.number == 1:
            name = message.text(part)
        elif part.number == 2:
            for kind in budget.fields(message.message(part), (1,)):
                if kind.number == 1:
                    dtype, shape = _read_tensor_type(message.message(kind), budget)
    if not name:
        raise message.fault(f"the input or output at offset {message.begin} has no name")
    return ValueInfo(name, dtype, shape)


def _read_tensor_type(
    message: Message, budget: Budget
) -> tuple[str | None, tuple[int | str | None, ...] | None]:
    dtype, shape = None, None
    for part in budget.fields(message, (1, 2)):
        if part.number == 1:
            number = message.signed(part)
            if number not in DTYPES and number != 0:
                raise message.fault(f"the unknown data type {number} is named at offset {part.end}")
            dtype = DTYPES[number].name if number else None
        elif part.number == 2:
            shape = _read_shape(message.message(part), budget)
    return dtype, shape


def _read_shape(message: Message, budget: Budget) -> tuple[int | str | None, ...]:
    dims: list[int | str | None] = []
    for part in budget.fields(message):
        if part.number != 1:
            continue
        dim: int | str | None = None
        inner = message.message(part)
        for value in budget.fields(inner, (1, 2)):
            if value.number == 1:
                dim = inner.signed(value)
                if dim < 0:
                    raise message.fault(f"a shape at offset {message.begin} has the dimension {dim}")
            elif value.number == 2:
                dim = inner.text(value) or None
        dims.append(dim)
    return tuple(dims)
