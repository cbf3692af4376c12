"""An ONNX file's messages become a graph, straight from the map: no weight is copied.

llorch has this reader instead of the `onnx` package, because that parses the whole file into objects of its own: 200 MB
of weights, inside the file or beside it, take 400 MB of memory and 2 s until they are arrays; here none and 0.02 s
(`python -m tools.onnx_exports.reading_memory`). Nor can it lend views, and serving needs it for nothing else.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llorch.errors import OnnxError
from llorch.formats.onnx.attributes import read_attribute
from llorch.formats.onnx.budget import MAX_DEPTH, Budget
from llorch.formats.onnx.external import ExternalFiles
from llorch.formats.onnx.functions import Function, inline_functions
from llorch.formats.onnx.graph import Graph, Node, OnnxTensor, ValueInfo
from llorch.formats.onnx.order import check_order
from llorch.formats.onnx.tensors import read_pair, read_tensor
from llorch.formats.onnx.value_info import read_value_info
from llorch.formats.printed import quote
from llorch.formats.protobuf import Message

IR_VERSIONS = range(3, 15)
OPSETS = range(13, 29)
"""Of ONNX's own operations. Before 13, Softmax and Unsqueeze were others, and no exporter of Llama writes them."""

_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _GRAPH, _OPSETS, _METADATA, _FUNCTIONS = 1, 2, 3, 7, 8, 14, 25
_SINGLE = (_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _GRAPH)


@dataclass(slots=True)
class _Header:
    """What a `ModelProto` says about its graph."""

    ir_version: int = 0
    producer: list[str] = field(default_factory=lambda: ["", ""])
    graph: Message | None = None
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    functions: list[Message] = field(default_factory=list)


def read_model(message: Message, files: ExternalFiles) -> Graph:
    """The graph of a file: nodes in order, each value given once, local functions in the place of their calls.

    Args:
        message: the whole file.
        files: gets the files that tensors name.

    Raises:
        OnnxError: the file is malformed, or of a version that is not supported.
    """
    budget = Budget()
    header = _read_header(message, budget)
    if header.graph is None:
        raise message.fault("is not an ONNX model: it holds no graph")
    if header.ir_version not in IR_VERSIONS:
        raise message.fault(
            f"has IR version {header.ir_version}; {IR_VERSIONS[0]} to {IR_VERSIONS[-1]} are supported"
        )
    _check_opsets(message, header.opsets)
    reader = GraphReader(budget, files, header)
    functions: dict[tuple[str, str, str], Function] = {}
    for part in header.functions:
        function = reader.function(part)
        if function.key in functions:
            raise message.fault(f"the local function {function.label} stands there twice")
        functions[function.key] = function
    graph = inline_functions(reader.graph(header.graph, 0), functions, message)
    check_order(graph, message)
    return graph


def _read_header(message: Message, budget: Budget) -> _Header:
    header = _Header()
    try:
        for part in budget.fields(message, _SINGLE):
            number = part.number
            if number == _IR_VERSION:
                header.ir_version = message.signed(part)
            elif number in (_PRODUCER, _PRODUCER_VERSION):
                header.producer[number - _PRODUCER] = message.text(part)
            elif number == _GRAPH:
                header.graph = message.message(part)
            elif number == _OPSETS:
                domain, version = _read_opset(message.message(part), budget)
                if header.opsets.setdefault(domain, version) != version:
                    raise message.fault(f"has two versions of the operations {quote(domain)}")
            elif number == _METADATA:
                key, value = read_pair(message.message(part), budget)
                header.metadata[key] = value
            elif number == _FUNCTIONS:
                header.functions.append(message.message(part))
    except OnnxError as error:
        if header.graph is None:
            raise OnnxError(f"{error} (is it an ONNX model, and is the download complete?)") from error
        raise
    return header


def _read_opset(message: Message, budget: Budget) -> tuple[str, int]:
    domain, version = "", 0
    for part in budget.fields(message, (1, 2)):
        if part.number == 1:
            domain = canonical_domain(message.text(part))
        elif part.number == 2:
            version = message.signed(part)
    return domain, version


def canonical_domain(domain: str) -> str:
    """ONNX's own domain has two spellings."""
    return "" if domain == "ai.onnx" else domain


def _check_opsets(message: Message, opsets: Mapping[str, int]) -> None:
    version = opsets.get("")
    if version is None:
        raise message.fault("does not say which version of ONNX's operations (opset) it needs")
    if version not in OPSETS:
        raise message.fault(
            f"has opset {version} of ONNX's operations; {OPSETS[0]} to {OPSETS[-1]} are supported: export it with one "
            "of them"
        )


class GraphReader:
    """Reads graphs and functions of one file."""

    def __init__(self, budget: Budget, files: ExternalFiles, header: _Header) -> None:
        self._budget, self._files, self._header = budget, files, header

    def graph(self, message: Message, depth: int) -> Graph:
        """A `GraphProto`; `depth` nodes are around it."""
        if depth > MAX_DEPTH:
            raise message.fault(f"has graphs nested more than {MAX_DEPTH} deep at offset {message.begin}")
        nodes: list[Node] = []
        tensors: dict[str, OnnxTensor] = {}
        inputs: list[ValueInfo] = []
        outputs: list[ValueInfo] = []
        sparse: list[str] = []
        name = ""
        for part in self._budget.fields(message, (2,)):
            number = part.number
            if number == 1:
                nodes.append(self._node(message.message(part), depth))
            elif number == 2:
                name = message.text(part)
            elif number == 5:
                tensor = read_tensor(message.message(part), self._budget, self._files)
                self._add(message, tensors, tensor)
            elif number in (11, 12):
                info = read_value_info(message.message(part), self._budget)
                (inputs if number == 11 else outputs).append(info)
            elif number == 15:
                sparse.append(self._sparse_name(message.message(part)))
        return Graph(
            tuple(nodes), tensors, tuple(inputs), tuple(outputs), self._header.opsets,
            " ".join(filter(None, self._header.producer)), name, self._header.ir_version, self._header.metadata,
            tuple(sparse),
        )  # fmt: skip

    @staticmethod
    def _add(message: Message, tensors: dict[str, OnnxTensor], tensor: OnnxTensor) -> None:
        if not tensor.name:
            raise message.fault(
                f"initializer {len(tensors)} of the graph at offset {message.begin} has no name"
            )
        if tensor.name in tensors:
            raise message.fault(f"initializer {quote(tensor.name)} stands there twice")
        tensors[tensor.name] = tensor

    def _sparse_name(self, message: Message) -> str:
        """The name of a `SparseTensorProto`, which is that of its values."""
        for part in self._budget.fields(message, (1, 2)):
            if part.number == 1:
                return read_tensor(
                    message.message(part), self._budget, self._files, "sparse initializer"
                ).name
        raise message.fault(f"the sparse initializer at offset {message.begin} has no values")

    def _node(self, message: Message, depth: int) -> Node:
        self._budget.take_node(message)
        names: dict[int, list[str]] = {1: [], 2: []}
        texts = {3: "", 4: "", 7: "", 8: ""}
        attributes: dict[str, Any] = {}
        for part in self._budget.fields(message, tuple(texts)):
            number = part.number
            if number in names:
                names[number].append(message.text(part))
            elif number in texts:
                texts[number] = message.text(part)
            elif number == 5:
                name, value = read_attribute(
                    message.message(part),
                    self._budget,
                    self._files,
                    lambda inner: self.graph(inner, depth + 1),
                )
                if name in attributes:
                    raise message.fault(f"node {quote(texts[3])} has the attribute {quote(name)} twice")
                attributes[name] = value
        if not texts[4]:
            raise message.fault(f"node {quote(texts[3])} at offset {message.begin} has no operation")
        return Node(
            texts[3],
            texts[4],
            canonical_domain(texts[7]),
            tuple(names[1]),
            tuple(names[2]),
            attributes,
            texts[8],
        )

    def function(self, message: Message) -> Function:
        """A `FunctionProto`."""
        texts = {1: "", 10: "", 13: ""}
        names: dict[int, list[str]] = {4: [], 5: []}
        nodes, defaults = [], {}
        for part in self._budget.fields(message, tuple(texts)):
            number = part.number
            if number in texts:
                texts[number] = message.text(part)
            elif number in names:
                names[number].append(message.text(part))
            elif number == 7:
                nodes.append(self._node(message.message(part), 0))
            elif number == 9:
                domain, version = _read_opset(message.message(part), self._budget)
                if domain == "":
                    _check_opsets(message, {domain: version})
            elif number == 11:
                name, value = read_attribute(
                    message.message(part), self._budget, self._files, lambda inner: self.graph(inner, 1)
                )
                defaults[name] = value
        return Function(
            texts[1],
            canonical_domain(texts[10]),
            texts[13],
            tuple(names[4]),
            tuple(names[5]),
            defaults,
            tuple(nodes),
        )
