"""The order of a graph: each value is given once, before it is read."""

from __future__ import annotations

from llorch.formats.onnx.graph import Graph, Node
from llorch.formats.printed import quote
from llorch.formats.protobuf import Message


def check_order(graph: Graph, message: Message, outside: tuple[set[str], ...] = ()) -> None:
    """Check a graph and those nested in its nodes.

    Args:
        graph: to be checked.
        message: the file, for errors.
        outside: values that the graphs around it have given so far.

    Raises:
        OnnxError: a value is given twice or read before it is given, as in a cycle, or an output is given by nothing.
    """
    given: set[str] = set(graph.initializers) | set(graph.sparse)
    names = [info.name for info in graph.inputs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise message.fault(f"the input {quote(twice)} stands there twice")
    given |= set(names)
    scopes = (*outside, given)
    for node in graph.nodes:
        for name in node.inputs:
            if name and not any(name in scope for scope in scopes):
                raise _not_given(graph, node, name, message)
        for nested in nested_graphs(node):
            check_order(nested, message, scopes)
        for name in filter(None, node.outputs):
            if any(name in scope for scope in scopes):
                raise message.fault(f"{node.label} gives the value {quote(name)}, which is given already")
            given.add(name)
    for info in graph.outputs:
        if not any(info.name in scope for scope in scopes):
            raise message.fault(f"the output {quote(info.name)} is given by no node")


def nested_graphs(node: Node) -> list[Graph]:
    """The graphs in the attributes of a node."""
    values = [
        item for value in node.attributes.values() for item in (value if isinstance(value, list) else [value])
    ]
    return [value for value in values if isinstance(value, Graph)]


def _not_given(graph: Graph, node: Node, name: str, message: Message) -> Exception:
    later = next((other for other in graph.nodes if name in other.outputs), None)
    if later is None:
        return message.fault(f"{node.label} reads the value {quote(name)}, which nothing gives")
    return message.fault(
        f"{node.label} reads the value {quote(name)}, which only {later.label} behind it gives: the nodes form a cycle "
        "or are out of order"
    )
