"""Nodes, attributes, inputs and outputs as a file has them, nested graphs, and local functions in place of calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llorch.formats.onnx.graph import Graph, OnnxTensor, ValueInfo
from llorch.formats.onnx.open_graph import read_graph
from llorch.formats.onnx.order import nested_graphs
from tests.support import onnx_writer as w
from tests.support.hostile_onnx import with_nodes


def read(tmp_path: Path, content: bytes) -> Graph:
    opened = read_graph(w.write(tmp_path / "m.onnx", content))
    opened.close()
    return opened.graph


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    content = w.model(w.graph(name="main"), opsets={"ai.onnx": 17, "com.microsoft": 1}, ir_version=9)
    graph = read(
        tmp_path, content + w.block(14, w.pair("task", "text")) + w.integer(5, 3) + w.block(6, "doc")
    )
    assert (graph.name, graph.producer, graph.ir_version) == ("main", "hand 1", 9)
    assert graph.opsets == {"": 17, "com.microsoft": 1}
    assert graph.metadata == {"task": "text"}


def test_inputs_and_outputs(tmp_path: Path) -> None:
    infos = [
        w.value_info("ids", 7, ["batch", 5, ""]),
        w.value_info("any", 1, None),
        w.value_info("scalar", 10, []),
        w.block(1, "list") + w.block(2, w.block(4, b"")),
        w.block(1, "bare"),
    ]
    graph = read(tmp_path, w.model(w.graph(inputs=infos, outputs=infos)))
    assert graph.inputs == graph.outputs
    assert graph.inputs == (
        ValueInfo("ids", "int64", ("batch", 5, None)),
        ValueInfo("any", "float32", None),
        ValueInfo("scalar", "float16", ()),
        ValueInfo("list", None, None),
        ValueInfo("bare", None, None),
    )


def test_a_node_with_attributes_of_every_kind(tmp_path: Path) -> None:
    body = w.graph([w.node("Identity", ["x"], ["inner"])], outputs=[w.value_info("inner")])
    node = w.node(
        "Something", ["x", "", "x"], ["y", ""],
        w.attribute("float", 0.5), w.attribute("int", -3), w.attribute("string", "text"),
        w.block(1, "bytes") + w.block(4, b"\xff") + w.integer(20, 3),
        w.attribute("tensor", w.tensor("", np.array([7, 8]))), w.attribute("graph", body, 5),
        w.attribute("floats", [0.5, 1.5]), w.attribute("ints", [1, -2]), w.attribute("strings", ["a", "b"]),
        w.block(1, "packed") + w.block(8, w.varint(5) + w.varint(-6)) + w.integer(20, 7),
        w.block(1, "packed floats") + w.block(7, np.array([2.5, 3.5], np.float32).tobytes()) + w.integer(20, 6),
        w.block(1, "left out") + w.integer(20, 2), w.block(1, "empty") + w.integer(20, 7),
        w.block(1, "old") + w.integer(3, 9),
        name="n", domain="com.microsoft",
    )  # fmt: skip
    (found,) = read(tmp_path, with_nodes(node)).nodes
    assert (found.name, found.op_type, found.domain) == ("n", "Something", "com.microsoft")
    assert (found.inputs, found.outputs) == (("x", "", "x"), ("y", ""))
    attributes = dict(found.attributes)
    tensor, graph = attributes.pop("tensor"), attributes.pop("graph")
    assert attributes == {
        "float": 0.5, "int": -3, "string": "text", "bytes": b"\xff", "floats": [0.5, 1.5], "ints": [1, -2],
        "strings": ["a", "b"], "packed": [5, -6], "packed floats": [2.5, 3.5], "left out": 0, "empty": [], "old": 9,
    }  # fmt: skip
    assert isinstance(tensor, OnnxTensor)
    assert tensor.values().tolist() == [7, 8]
    assert isinstance(graph, Graph)
    assert graph.nodes[0].op_type == "Identity"
    assert nested_graphs(found) == [graph]


@pytest.mark.parametrize(("name", "op_type", "said"), [
    ("n", "Add", "Add node 'n'"), ("", "Add", "Add node of the value 'y'"), ("a\nb", "A d", r"'A d' node 'a\nb'"),
])  # fmt: skip
def test_a_node_in_messages(name: str, op_type: str, said: str, tmp_path: Path) -> None:
    (node,) = read(tmp_path, with_nodes(w.node(op_type, ["x"], ["y"], name=name))).nodes
    assert node.label == said


def test_initializers_may_be_defaults_of_inputs_as_old_files_have_it(tmp_path: Path) -> None:
    tensor = w.tensor("t", np.ones(3, np.float32))
    infos = [w.value_info("x"), w.value_info("t")]
    nodes = [w.node("Add", ["x", "t"], ["y"])]
    graph = read(tmp_path, w.model(w.graph(nodes, [tensor], infos, [w.value_info("y")]), ir_version=3))
    assert list(graph.initializers) == ["t"]


def test_a_nested_graph_reads_values_of_those_around_it(tmp_path: Path) -> None:
    inner = w.graph([w.node("Add", ["x", "a"], ["z"])], outputs=[w.value_info("z")])
    outer = w.graph(
        [w.node("If", ["a"], ["b"], w.attribute("then_branch", inner, 5))], outputs=[w.value_info("b")]
    )
    graph = read(
        tmp_path,
        with_nodes(
            w.node("Neg", ["x"], ["a"]), w.node("If", ["a"], ["y"], w.attribute("then_branch", outer, 5))
        ),
    )
    (body,) = nested_graphs(graph.nodes[1])
    assert nested_graphs(body.nodes[0])[0].nodes[0].inputs == ("x", "a")


def test_sparse_initializers_are_named(tmp_path: Path) -> None:
    sparse = w.block(1, w.tensor("s", np.ones(2, np.float32))) + w.block(2, w.tensor("", np.array([1, 4])))
    content = w.model(
        w.graph([w.node("Neg", ["s"], ["y"])], outputs=[w.value_info("y")], more=w.block(15, sparse))
    )
    assert read(tmp_path, content).sparse == ("s",)


def test_a_local_function_takes_the_place_of_each_call(tmp_path: Path) -> None:
    body = [
        w.node("Neg", ["a"], ["t"], name="first"),
        w.node(
            "Scale",
            ["t", "c"],
            ["b"],
            w.reference("by", "factor", 1),
            w.reference("to", "absent", 2),
            name="second",
        ),
    ]
    function = w.function("f", "local", ["a", "c"], ["b"], body, w.attribute("factor", 0.5))
    calls = [
        w.node("f", ["x"], ["u"], name="one", domain="local"),
        w.node("f", ["u", "x"], ["y"], w.attribute("factor", 2.0), domain="local"),
    ]
    nodes = read(tmp_path, with_nodes(*calls, functions=[function])).nodes
    assert [(node.name, node.inputs, node.outputs, dict(node.attributes)) for node in nodes] == [
        ("one#1/first", ("x",), ("one#1/t",), {}),
        ("one#1/second", ("one#1/t", ""), ("u",), {"by": 0.5}),
        ("f#2/first", ("u",), ("f#2/t",), {}),
        ("f#2/second", ("f#2/t", "x"), ("y",), {"by": 2.0}),
    ]


def test_functions_call_each_other_and_have_nested_graphs(tmp_path: Path) -> None:
    inner = w.function("g", "local", ["a"], ["b"], [w.node("Neg", ["a"], ["b"], name="neg")])
    branch = w.graph(
        [w.node("g", ["a"], ["r"], name="deep", domain="local"), w.node("Add", ["r", "k"], ["s"])],
        [w.tensor("k", np.ones(1, np.float32))],
        outputs=[w.value_info("s")],
    )
    outer = w.function(
        "f", "local", ["a"], ["b"],
        [w.node("g", ["a"], ["t"], name="call", domain="local"),
         w.node("If", ["t"], ["b"], w.attribute("then_branch", branch, 5))],
    )  # fmt: skip
    graph = read(
        tmp_path, with_nodes(w.node("f", ["x"], ["y"], name="c", domain="local"), functions=[outer, inner])
    )
    assert [(node.op_type, node.inputs, node.outputs) for node in graph.nodes] == [
        ("Neg", ("x",), ("c#1/t",)),
        ("If", ("c#1/t",), ("y",)),
    ]
    (body,) = nested_graphs(graph.nodes[1])
    assert [(node.op_type, node.inputs, node.outputs) for node in body.nodes] == [
        ("Neg", ("x",), ("c#1/r",)),
        ("Add", ("c#1/r", "c#1/k"), ("c#1/s",)),
    ]
    assert list(body.initializers) == ["c#1/k"]
    assert body.outputs[0].name == "c#1/s"
