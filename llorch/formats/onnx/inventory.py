"""What is in an ONNX graph, counted: operations, tensors, inputs, outputs and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from llorch.formats.onnx.graph import Graph, ValueInfo
from llorch.formats.onnx.open_graph import OpenGraph
from llorch.formats.onnx.order import nested_graphs


def inventory(opened: OpenGraph) -> dict[str, Any]:
    """Counts and names, as JSON can hold them.

    Operations and initializers are counted with those of nested graphs; ``"ai.onnx"`` is the domain of ONNX's own
    operations. Calls of local functions are counted by what their bodies do.
    """
    graph = opened.graph
    graphs = list(_all_graphs(graph))
    operations = Counter((node.op_type, node.domain) for each in graphs for node in each.nodes)
    tensors = [tensor for each in graphs for tensor in each.initializers.values()]
    counts = Counter(tensor.dtype for tensor in tensors)
    n_bytes = Counter[str]()
    for tensor in tensors:
        n_bytes[tensor.dtype] += tensor.data.nbytes
    return {
        "name": graph.name,
        "producer": graph.producer,
        "ir_version": graph.ir_version,
        "opsets": {domain or "ai.onnx": version for domain, version in sorted(graph.opsets.items())},
        "n_nodes": operations.total(),
        "operations": [
            {"op_type": op_type, "domain": domain or "ai.onnx", "count": count}
            for (op_type, domain), count in sorted(operations.items(), key=lambda item: (-item[1], item[0]))
        ],
        "inputs": [_value(info) for info in graph.inputs if info.name not in graph.initializers],
        "outputs": [_value(info) for info in graph.outputs],
        "initializers": [
            {"dtype": dtype, "count": count, "bytes": n_bytes[dtype]} for dtype, count in counts.most_common()
        ],
        "sparse_initializers": [name for each in graphs for name in each.sparse],
        "files": [
            {"location": location, "bytes": size, "checksum": opened.external.checksums.get(location)}
            for location, size in opened.sizes.items()
        ],
        "metadata": dict(graph.metadata),
    }


def _all_graphs(graph: Graph) -> Iterator[Graph]:
    """The graph and those nested in it."""
    waiting = [graph]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += [nested for node in found.nodes for nested in nested_graphs(node)]


def _value(info: ValueInfo) -> dict[str, Any]:
    return {"name": info.name, "type": info.dtype, "shape": None if info.shape is None else list(info.shape)}
