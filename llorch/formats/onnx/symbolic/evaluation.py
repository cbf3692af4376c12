"""A run of the graph for a few token ids, node by node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Graph, Node, ValueInfo
from llorch.formats.onnx.symbolic import fused, products
from llorch.formats.onnx.symbolic.activations import ACTIVATIONS
from llorch.formats.onnx.symbolic.constants import computed, numbers_of
from llorch.formats.onnx.symbolic.moves import MOST_ELEMENTS, MOVES, integer, moves_of, require_size
from llorch.formats.onnx.symbolic.quantized import refuse_quantized
from llorch.formats.onnx.symbolic.values import Form, Matrix, Numbers, Space, Value

_MOST_IN_ALL = 1 << 28
"""Elements of all values together; a hostile graph could go on for hours."""
_FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What the graph is run for.

    Attributes:
        ids: int64 (1, n), no rising sequence, so that they are not taken for positions.
        n_past: tokens whose keys and values go in.
        width: of the keys and values that go in, for graphs that do not say it.
    """

    ids: NDArray[np.int64]
    n_past: int = 0
    width: int = 0

    @property
    def n_kv(self) -> int:
        """Tokens that are attended to."""
        return self.n_past + int(self.ids.shape[1])


class Evaluation:
    """Values of all nodes that the outputs need.

    Attributes:
        probe: what the graph is run for.
        space: all activations.
        values: of the outputs, by name.
        tables: RoPE's cosines and sines for many positions, where the graph has them as constants.
    """

    def __init__(self, graph: Graph, probe: Probe) -> None:
        """Run the graph.

        Raises:
            OnnxError: an operation, or what it is used for, is not known.
        """
        self.probe = probe
        self.space = Space()
        self.tables: list[tuple[Numbers, Numbers]] = []
        self._graph = graph
        self._n_elements = 0
        self._values: dict[str, Value] = {}
        self._widened: dict[int, Numbers] = {}
        for given in graph.inputs:
            if given.name not in graph.initializers:
                self._values[given.name] = self._bind(given)
        nodes = _needed(graph)
        last_use = {name: i for i, node in enumerate(nodes) for name in node.inputs}
        outputs = {output.name for output in graph.outputs}
        for i, node in enumerate(nodes):
            self._run(node)
            for name in node.inputs:
                if last_use[name] == i and name not in outputs:
                    self._values.pop(name, None)
        self.values = {output.name: self._value(output.name) for output in graph.outputs}

    def _bind(self, given: ValueInfo) -> Value:
        """What an input gets."""
        shape = given.shape or ()
        if given.dtype in ("int64", "int32") and len(shape) == 2:
            kind = np.dtype(given.dtype)
            if "mask" in given.name:
                return np.ones((1, self.probe.n_kv), kind)
            if "position" in given.name:
                return np.arange(self.probe.n_past, self.probe.n_kv, dtype=kind)[None]
            if isinstance(shape[1], int):
                raise OnnxError(
                    f"input {given.name!r} has a fixed length of {shape[1]} tokens; export the model with dynamic "
                    "axes (dynamic_axes or dynamic_shapes of torch.onnx.export)"
                )
            return self.probe.ids.astype(kind)
        if given.dtype in _FLOATS and len(shape) == 4 and isinstance(shape[1], int):
            node = Node(given.name, "Input", "", (), (given.name,), {})
            width = shape[3] if isinstance(shape[3], int) else self.probe.width
            past = (1, shape[1], self.probe.n_past, width)
            require_size((1, shape[1], self.probe.n_kv, width), node)  # also where the past is empty
            return self.space.add("Past", (), past, node, given.name)
        raise OnnxError(
            f"input {given.name!r} ({given.dtype}, shape {given.shape}) is not one of a Llama model: token ids, "
            "attention mask, positions, or past keys and values of the shape (batch, heads, tokens, width) with "
            "a fixed number of heads"
        )

    def _value(self, name: str) -> Value:
        if name in self._values:
            return self._values[name]
        tensor = self._graph.initializers.get(name)
        if tensor is None:
            raise OnnxError(f"value {name!r} is made by no node of the graph")
        if tensor.dtype in _FLOATS and len(tensor.shape) == 2:
            return Matrix(tensor)
        if tensor.n_elements > MOST_ELEMENTS:
            raise OnnxError(
                f"initializer {name!r} of the shape {tensor.shape} is not a matrix of a Llama model"
            )
        return numbers_of(tensor)

    def _run(self, node: Node) -> None:
        refuse_quantized(node)
        inputs = [self._value(name) if name else None for name in node.inputs]
        try:
            with np.errstate(all="ignore"):
                outputs = self._outputs(node, inputs)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise OnnxError(f"{node.label}: its inputs do not fit it ({error})") from error
        for name, value in zip(node.outputs, outputs, strict=False):
            if name and value is not None:
                self._n_elements += _size(value)
                self._values[name] = value
        if self._n_elements > _MOST_IN_ALL:
            raise OnnxError(f"{node.label}: the graph computes too many numbers to follow")

    def _outputs(self, node: Node, inputs: list[Value | None]) -> list[Value | None]:
        if node.op_type in ("Shape", "Size") and inputs[0] is not None:
            shape = np.array(inputs[0].shape, np.int64)
            if node.op_type == "Size":
                return [np.asarray(shape.prod())]
            return [shape[slice(integer(node, "start", 0), node.attributes.get("end"))]]
        if (found := products.of_matrices(self, node, inputs)) is not None:
            return found
        given: list[Any] = [
            self._numbers(value, node) if isinstance(value, Matrix) else value for value in inputs
        ]
        if node.op_type in fused.FUSED:
            return fused.FUSED[node.op_type](self, node, given)
        if not any(isinstance(value, Form) for value in given):
            if node.op_type in MOVES and not node.domain:
                return [np.asarray(move(given[0])) for move in moves_of(node, given[1:], np.shape(given[0]))]
            return list(computed(node, given))
        if node.op_type in MOVES and isinstance(given[0], Form):
            if any(isinstance(value, Form) for value in given[1:]):
                raise OnnxError(f"{node.label}: where it takes elements depends on activations")
            return [given[0].moved(move) for move in moves_of(node, given[1:], given[0].shape)]
        activation = ACTIVATIONS.get(node.op_type)
        if activation is None or node.domain:
            raise OnnxError(
                f"{node.label}: this operation on activations is not known in graphs of Llama models"
            )
        return [activation(self.space, node, given)]

    def _numbers(self, matrix: Matrix, node: Node) -> Numbers:
        if matrix.tensor.n_elements > MOST_ELEMENTS:
            raise OnnxError(
                f"{node.label}: uses the matrix {matrix.tensor.name!r} {matrix.shape} otherwise than as a factor"
            )
        key = id(matrix.tensor)  # every layer reads the same tables of cosines: they are widened once
        if key not in self._widened:
            self._widened[key] = numbers_of(matrix.tensor)
        values = self._widened[key]
        return values.T if matrix.is_flipped else values


def _size(value: Value) -> int:
    if isinstance(value, Matrix):
        return 0
    return int(value.index.size if isinstance(value, Form) else value.size)


def _needed(graph: Graph) -> list[Node]:
    """The nodes on which the outputs depend."""
    wanted = {output.name for output in graph.outputs}
    needed = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            needed.append(node)
            wanted.update(node.inputs)
    return needed[::-1]
