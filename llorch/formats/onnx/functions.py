"""Local functions of an ONNX file: their nodes take the place of each call, under names of their own.

Source: `FunctionProto` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from llorch.formats.onnx.attributes import Reference
from llorch.formats.onnx.budget import MAX_DEPTH, Budget
from llorch.formats.onnx.graph import Graph, Node
from llorch.formats.printed import quote
from llorch.formats.protobuf import Message

Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A local function.

    Attributes:
        name, domain, overload: what calls name it by.
        inputs, outputs: names of values in its body.
        defaults: values of attributes that a call may leave out.
        nodes: the body; attributes may be a `Reference` to one of the call.
    """

    name: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Any]
    nodes: tuple[Node, ...]

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.domain, self.name, self.overload

    @property
    def label(self) -> str:
        """The function in messages."""
        return quote(f"{self.domain}.{self.name}" if self.domain else self.name)


def inline_functions(graph: Graph, functions: Mapping[Key, Function], message: Message) -> Graph:
    """The graph without calls of local functions.

    Args:
        graph: as it stands in the file.
        functions: by key.
        message: the file, for errors.

    Raises:
        OnnxError: a function calls itself, a call does not fit its function, or the graph becomes too large.
    """
    return _Inliner(functions, message).graph(graph, 0)


class _Inliner:
    """Puts functions in; a `Budget` of its own counts what is made."""

    def __init__(self, functions: Mapping[Key, Function], message: Message) -> None:
        self._functions, self._message, self._budget = functions, message, Budget()
        self._n_calls = 0

    def graph(self, graph: Graph, depth: int) -> Graph:
        """A graph without calls; `depth` nodes are around it."""
        if depth > MAX_DEPTH:
            raise self._message.fault(
                f"has graphs nested more than {MAX_DEPTH} deep after its functions are put in"
            )
        self._budget.take(self._message, len(graph.initializers) + len(graph.inputs) + len(graph.outputs))
        return replace(graph, nodes=tuple(self._expanded(graph.nodes, depth)))

    def _expanded(self, nodes: tuple[Node, ...], depth: int) -> Iterator[Node]:
        """The nodes and, in the place of each call, the body; calls in bodies wait on a stack, not in Python's."""
        stack: list[tuple[Iterator[Node], Key | None]] = [(iter(nodes), None)]
        active: set[Key | None] = set()
        while stack:
            node = next(stack[-1][0], None)
            if node is None:
                active.discard(stack.pop()[1])
                continue
            self._budget.take_node(self._message)
            self._budget.take(self._message, len(node.inputs) + len(node.outputs) + len(node.attributes))
            function = self._functions.get((node.domain, node.op_type, node.overload))
            if function is None:
                yield self._with_nested(node, depth)
            elif function.key in active:
                raise self._message.fault(f"the local function {function.label} calls itself")
            else:
                active.add(function.key)
                stack.append((self._body(function, node), function.key))

    def _with_nested(self, node: Node, depth: int) -> Node:
        attributes: dict[str, Any] = {}
        found: Mapping[str, Any] = node.attributes
        for name, value in found.items():
            if isinstance(value, Reference):
                raise self._message.fault(
                    f"{node.label} has the attribute {quote(name)} of a function, but is in none"
                )
            if isinstance(value, Graph):
                attributes[name] = self.graph(value, depth + 1)
            elif isinstance(value, list) and any(isinstance(item, Graph) for item in value):
                attributes[name] = [self.graph(item, depth + 1) for item in value]
            else:
                attributes[name] = value
        return replace(node, attributes=attributes)

    def _body(self, function: Function, call: Node) -> Iterator[Node]:
        """The nodes of a function, with the values and attributes of a call."""
        for kind, formal, actual in (
            ("inputs", function.inputs, call.inputs),
            ("outputs", function.outputs, call.outputs),
        ):
            if len(actual) > len(formal):
                raise self._message.fault(
                    f"{call.label} has {len(actual)} {kind}; the local function {function.label} has {len(formal)}"
                )
        self._n_calls += 1
        prefix = f"{call.name or call.op_type}#{self._n_calls}/"
        names = {
            "": "",
            **dict.fromkeys(function.inputs, ""),
            **dict(zip(function.inputs, call.inputs, strict=False)),
        }
        names |= {
            formal: actual for formal, actual in zip(function.outputs, call.outputs, strict=False) if actual
        }
        renamed = _Renamed(names, prefix, {**function.defaults, **call.attributes})
        return (renamed.node(node) for node in function.nodes)


@dataclass(frozen=True, slots=True)
class _Renamed:
    """Names and attributes of a function's body as one call of it has them.

    Attributes:
        names: of the caller's values by those of the body.
        prefix: of all other names.
        attributes: of the call, by name.
    """

    names: Mapping[str, str]
    prefix: str
    attributes: Mapping[str, Any]

    def _name(self, name: str) -> str:
        return self.names.get(name, self.prefix + name)

    def node(self, node: Node) -> Node:
        attributes: dict[str, Any] = {}
        found: Mapping[str, Any] = node.attributes
        for name, value in found.items():
            if isinstance(value, Reference):
                if value.name in self.attributes:
                    attributes[name] = self.attributes[value.name]
            else:
                attributes[name] = self._value(value)
        return replace(
            node,
            name=self.prefix + node.name,
            inputs=tuple(map(self._name, node.inputs)),
            outputs=tuple(map(self._name, node.outputs)),
            attributes=attributes,
        )

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return self._graph(value) if isinstance(value, Graph) else value

    def _graph(self, graph: Graph) -> Graph:
        return replace(
            graph,
            nodes=tuple(self.node(node) for node in graph.nodes),
            initializers={
                self._name(name): replace(tensor, name=self._name(name))
                for name, tensor in graph.initializers.items()
            },
            inputs=tuple(replace(info, name=self._name(info.name)) for info in graph.inputs),
            outputs=tuple(replace(info, name=self._name(info.name)) for info in graph.outputs),
            sparse=tuple(map(self._name, graph.sparse)),
        )
