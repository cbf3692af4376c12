"""ONNX files written by hand: each function gives the bytes of a message, so that any of them can lie.

NumPy and `struct` only; `tests/integration/test_onnx_reading.py` has the `onnx` package check what is written.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5

TYPE_NUMBERS = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15, "bfloat16": 16,
}  # fmt: skip

Text = str | bytes


def varint(value: int) -> bytes:
    """A number of 64 bits; negative ones as their two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def key(number: int, wire_type: int) -> bytes:
    """What stands in front of a field."""
    return varint(number << 3 | wire_type)


def integer(number: int, value: int) -> bytes:
    """An integer field."""
    return key(number, VARINT) + varint(value)


def block(number: int, content: Text, n_bytes: int | None = None) -> bytes:
    """A field of bytes, a string or a message; `n_bytes` is the length it claims, if not its own."""
    raw = content.encode() if isinstance(content, str) else content
    return key(number, BYTES) + varint(len(raw) if n_bytes is None else n_bytes) + raw


def pair(name: Text, value: Text) -> bytes:
    """A `StringStringEntryProto`."""
    return block(1, name) + block(2, value)


def tensor(
    name: Text,
    values: NDArray[Any] | None = None,
    *,
    dims: Iterable[int] | None = None,
    dtype: int | None = None,
    raw: bytes | None = None,
    external: Mapping[str, Text] | None = None,
    more: bytes = b"",
) -> bytes:
    """A `TensorProto`.

    Args:
        name: of the tensor.
        values: whose shape, type and bytes are written, unless the next three say otherwise.
        dims: the shape.
        dtype: the number of the type.
        raw: `raw_data`; with `external` none is written.
        external: the entries of `external_data`.
        more: fields behind the others.
    """
    out = b""
    for dim in values.shape if dims is None and values is not None else dims or ():
        out += integer(1, dim)
    number = TYPE_NUMBERS[values.dtype.name] if dtype is None and values is not None else dtype
    out += integer(2, number) if number is not None else b""
    out += block(8, name)
    if external is not None:
        out += b"".join(block(13, pair(k, v)) for k, v in external.items()) + integer(14, 1)
    elif raw is not None:
        out += block(9, raw)
    elif values is not None:
        out += block(9, np.ascontiguousarray(values).tobytes())
    return out + more


def attribute(name: Text, value: Any, kind: int | None = None) -> bytes:
    """An `AttributeProto`; bytes are messages: of a tensor, or of a graph where `kind` is 5."""
    if isinstance(value, int):
        number, content = 2, integer(3, value)
    elif isinstance(value, float):
        number, content = 1, key(2, FIXED_32) + struct.pack("<f", value)
    elif isinstance(value, str):
        number, content = 3, block(4, value)
    elif isinstance(value, bytes):
        number, content = (5, block(6, value)) if kind == 5 else (4, block(5, value))
    elif all(isinstance(item, int) for item in value):
        number, content = 7, b"".join(integer(8, item) for item in value)
    elif all(isinstance(item, float) for item in value):
        number, content = 6, b"".join(key(7, FIXED_32) + struct.pack("<f", item) for item in value)
    else:
        number, content = 8, b"".join(block(9, item) for item in value)
    return block(1, name) + content + integer(20, number if kind is None else kind)


def reference(name: Text, of_function: Text, kind: int) -> bytes:
    """An `AttributeProto` that takes the value of a function's attribute."""
    return block(1, name) + block(21, of_function) + integer(20, kind)


def node(
    op_type: Text,
    inputs: Iterable[Text],
    outputs: Iterable[Text],
    *attributes: bytes,
    name: Text = "",
    domain: Text = "",
    more: bytes = b"",
) -> bytes:
    """A `NodeProto`."""
    out = b"".join(block(1, text) for text in inputs) + b"".join(block(2, text) for text in outputs)
    out += block(3, name) + block(4, op_type) + b"".join(block(5, content) for content in attributes)
    return out + (block(7, domain) if domain else b"") + more


def value_info(name: Text, dtype: int = 1, shape: Iterable[int | str] | None = ()) -> bytes:
    """A `ValueInfoProto` of a tensor; texts in the shape are names of free dimensions."""
    described = integer(1, dtype)
    if shape is not None:
        dims = (integer(1, dim) if isinstance(dim, int) else block(2, dim) for dim in shape)
        described += block(2, b"".join(block(1, dim) for dim in dims))
    return block(1, name) + block(2, block(1, described))


def graph(
    nodes: Iterable[bytes] = (),
    initializers: Iterable[bytes] = (),
    inputs: Iterable[bytes] = (),
    outputs: Iterable[bytes] = (),
    *,
    name: Text = "g",
    more: bytes = b"",
) -> bytes:
    """A `GraphProto`."""
    numbered = ((1, nodes), (5, initializers), (11, inputs), (12, outputs))
    return block(2, name) + b"".join(block(n, item) for n, items in numbered for item in items) + more


def function(
    name: Text,
    domain: Text,
    inputs: Iterable[Text],
    outputs: Iterable[Text],
    nodes: Iterable[bytes],
    *attributes: bytes,
    opset: int = 17,
) -> bytes:
    """A `FunctionProto`; `attributes` have the values of those that a call leaves out."""
    out = block(1, name) + b"".join(block(4, text) for text in inputs)
    out += b"".join(block(5, text) for text in outputs) + b"".join(block(7, content) for content in nodes)
    out += block(9, opset_id("", opset)) + block(10, domain)
    return out + b"".join(block(11, content) for content in attributes)


def opset_id(domain: Text, version: int) -> bytes:
    """An `OperatorSetIdProto`."""
    return (block(1, domain) if domain else b"") + integer(2, version)


def model(
    content: bytes,
    *,
    opsets: Mapping[str, int] | None = None,
    ir_version: int = 8,
    functions: Iterable[bytes] = (),
    more: bytes = b"",
) -> bytes:
    """A `ModelProto` with the graph `content`."""
    out = integer(1, ir_version) + block(2, "hand") + block(3, "1") + block(7, content)
    for domain, version in ({"": 17} if opsets is None else opsets).items():
        out += block(8, opset_id(domain, version))
    return out + b"".join(block(25, text) for text in functions) + more


def identity_model(*initializers: bytes, more: bytes = b"") -> bytes:
    """A model that gives back its input, with tensors that nothing reads."""
    return model(
        graph(
            [node("Identity", ["x"], ["y"], name="copy")],
            initializers,
            [value_info("x", 1, ["n", 3])],
            [value_info("y", 1, None)],
        ),
        more=more,
    )


def write(path: Path, content: bytes) -> Path:
    """A file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
