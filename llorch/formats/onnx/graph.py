"""An ONNX graph in memory: nodes, the tensors they read, inputs and outputs. Weights are views on the files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.onnx.dtypes import BY_NAME
from llorch.formats.printed import quote


@dataclass(frozen=True, slots=True, eq=False)
class OnnxTensor:
    """A constant: an initializer of a graph, or the value of an attribute.

    Attributes:
        name: of the value in the graph; may be empty in attributes.
        dtype: ONNX's name of the number type, e.g. ``"float32"``, ``"float16"``, ``"bfloat16"``, ``"int64"``.
        shape: row-major; ``()`` for one number.
        data: uint8, the little-endian numbers, at any address; empty where `dtype` is ``"string"``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def values(self) -> NDArray[Any]:
        """The numbers, of the tensor's shape: read-only in the type of `dtype`; bfloat16 as fresh float32.

        Raises:
            OnnxError: NumPy has no such type (strings, floats of 8 bits, integers of 4).
        """
        if self.dtype == "bfloat16":
            wide = self.data.view("<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(self.shape)
        numpy = BY_NAME[self.dtype].numpy
        if numpy is None:
            raise OnnxError(
                f"tensor {quote(self.name)} has values of the type {self.dtype}, which are not read; export the model "
                "in float32, float16 or bfloat16"
            )
        return self.data.view(numpy).reshape(self.shape)


AttributeValue: TypeAlias = "int | float | str | bytes | list[Any] | OnnxTensor | Graph"
"""Strings that are not UTF-8 are bytes; lists hold values of one of the other types."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operation.

    Attributes:
        name: may be empty.
        op_type: e.g. ``"MatMul"``.
        domain: of the operation; ``""`` for ONNX's own.
        inputs: names of values; ``""`` for an optional one that is left out.
        outputs: names of values; ``""`` for an optional one that is left out.
        attributes: values by name.
        overload: which of several local functions of one name is meant; empty for operations.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]
    overload: str = ""

    @property
    def label(self) -> str:
        """The node in messages: operation and name, or its first output where it has no name."""
        operation = (
            self.op_type if self.op_type.isidentifier() and len(self.op_type) < 80 else quote(self.op_type)
        )
        if self.name:
            return f"{operation} node {quote(self.name)}"
        return f"{operation} node of the value {quote(next(iter(self.outputs), ''))}"


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or output of a graph.

    Attributes:
        name: of the value.
        dtype: ONNX's name of the number type; None where the file does not say it, or it is no tensor.
        shape: numbers, names of free dimensions, None for unnamed ones; None where the rank is not known.
    """

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A graph, or one nested in an attribute; local functions are already put in the place of their calls.

    Attributes:
        nodes: each after those whose outputs it reads.
        initializers: constants by name; they may appear in `inputs`, too, as defaults.
        inputs: what the graph gets.
        outputs: what it gives.
        opsets: versions by domain, ``""`` for ONNX's own.
        producer: name and version of the program that wrote the file; may be empty.
        name: of the graph; may be empty.
        ir_version: of the file format.
        metadata: what the producer noted, by key.
        sparse: names of the sparse initializers, whose values are not read.
    """

    nodes: tuple[Node, ...]
    initializers: Mapping[str, OnnxTensor]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    opsets: Mapping[str, int]
    producer: str
    name: str = ""
    ir_version: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    sparse: tuple[str, ...] = ()
