"""ONNX graphs that cannot be computed: cycles, values that nothing gives, nesting without end, false functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.formats.onnx import budget
from tests.support import onnx_writer as w
from tests.support.hostile_onnx import check, with_nodes

PASS = w.node("Identity", ["x"], ["y"], name="copy")


def call(name: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    return w.node(name, inputs, outputs, *attributes, name=f"call of {name}", domain="local")


ORDERS = {
    "a node that reads itself": (
        with_nodes(w.node("Add", ["x", "y"], ["y"], name="n")),
        "cycle or are out of order",
    ),
    "a cycle of two": (
        with_nodes(
            w.node("Add", ["x", "b"], ["a"], name="one"), w.node("Add", ["a", "x"], ["b"], name="two")
        ),
        "Add node 'one' reads the value 'b', which only Add node 'two' behind it gives: the nodes form a cycle",
    ),
    "nodes out of order": (
        with_nodes(w.node("Neg", ["a"], ["y"]), w.node("Neg", ["x"], ["a"])),
        "out of order",
    ),
    "a value that nothing gives": (
        with_nodes(w.node("Neg", ["z"], ["y"], name="n")),
        "Neg node 'n' reads the value 'z', which nothing gives",
    ),
    "such a value and no name": (with_nodes(w.node("Neg", ["z"], ["y"])), "Neg node of the value 'y' reads"),
    "a value given twice": (
        with_nodes(PASS, PASS),
        "Identity node 'copy' gives the value 'y', which is given already",
    ),
    "an input given again": (
        with_nodes(w.node("Neg", ["x"], ["x"]), outputs=()),
        "'x', which is given already",
    ),
    "an output given by nothing": (
        with_nodes(PASS, outputs=("y", "z")),
        "the output 'z' is given by no node",
    ),
    "no node": (with_nodes(), "the output 'y' is given by no node"),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_a_graph_that_cannot_be_computed_is_refused(kind: str, tmp_path: Path) -> None:
    content, said = ORDERS[kind]
    check(tmp_path, content, said)


def nested(depth: int) -> bytes:
    inner = w.node("Identity", ["x"], ["z"])
    for level in range(depth):
        body = w.graph([inner], outputs=[w.value_info("z" if level == 0 else f"z{level - 1}")])
        inner = w.node("If", ["x"], [f"z{level}"], w.attribute("then_branch", body, 5))
    return with_nodes(inner, PASS)


@pytest.mark.parametrize("depth", [13, 14, 400, 3000])
def test_graphs_nested_without_end_are_refused(depth: int, tmp_path: Path) -> None:
    check(tmp_path, nested(depth), "has graphs nested more than 12 deep at offset")


def test_a_nested_graph_reads_only_what_is_given_before_its_node(tmp_path: Path) -> None:
    body = w.graph([w.node("Neg", ["y"], ["z"], name="inner")], outputs=[w.value_info("z")])
    node = w.node("If", ["x"], ["a"], w.attribute("then_branch", body, 5))
    check(tmp_path, with_nodes(node, PASS), "Neg node 'inner' reads the value 'y', which nothing gives")


def test_a_nested_graph_may_not_give_a_value_of_the_graph_around_it(tmp_path: Path) -> None:
    body = w.graph([w.node("Neg", ["x"], ["y"], name="inner")], outputs=[w.value_info("y")])
    node = w.node("If", ["x"], ["a"], w.attribute("then_branch", body, 5))
    check(tmp_path, with_nodes(PASS, node), "Neg node 'inner' gives the value 'y', which is given already")


def f(name: str, *nodes: bytes, inputs: tuple[str, ...] = ("a",), opset: int = 17) -> bytes:
    return w.function(name, "local", inputs, ("b",), nodes, opset=opset)


NEG = w.node("Neg", ["a"], ["b"])
FUNCTIONS = {
    "a function that calls itself": (
        with_nodes(call("f", ["x"], ["y"]), functions=[f("f", call("f", ["a"], ["b"]))]),
        "the local function 'local.f' calls itself",
    ),
    "two functions that call each other": (
        with_nodes(
            call("f", ["x"], ["y"]),
            functions=[f("f", call("g", ["a"], ["b"])), f("g", call("f", ["a"], ["b"]))],
        ),
        "the local function 'local.f' calls itself",
    ),
    "a function twice": (
        with_nodes(PASS, functions=[f("f", NEG)] * 2),
        "function 'local.f' stands there twice",
    ),
    "a function of another opset": (with_nodes(PASS, functions=[f("f", NEG, opset=3)]), "has opset 3"),
    "a call of too many inputs": (
        with_nodes(call("f", ["x", "x"], ["y"]), functions=[f("f", NEG)]),
        "f node 'call of f' has 2 inputs; the local function 'local.f' has 1",
    ),
    "a call of too many outputs": (
        with_nodes(call("f", ["x"], ["y", "z"]), functions=[f("f", NEG)]),
        "has 2 outputs; the local function 'local.f' has 1",
    ),
    "a body that reads what is not given": (
        with_nodes(call("f", ["x"], ["y"]), functions=[f("f", w.node("Neg", ["x"], ["b"], name="n"))]),
        "Neg node 'call of f#1/n' reads the value 'call of f#1/x', which nothing gives",
    ),
    "a body that gives no output": (
        with_nodes(call("f", ["x"], ["y"]), functions=[f("f", w.node("Neg", ["a"], ["c"]))]),
        "the output 'y' is given by no node",
    ),
    "an attribute of a function outside one": (
        with_nodes(w.node("Neg", ["x"], ["y"], w.reference("axis", "axis", 2), name="n")),
        "Neg node 'n' has the attribute 'axis' of a function, but is in none",
    ),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_that_lies_is_refused(kind: str, tmp_path: Path) -> None:
    content, said = FUNCTIONS[kind]
    check(tmp_path, content, said)


@pytest.mark.parametrize(
    "innermost", [f("f0", NEG), w.function("f0", "local", ("a",), ("b",), [])], ids=["a node", "nothing"]
)
def test_functions_that_double_the_graph_are_bounded(
    innermost: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_NODES", 2000)
    doubling = [
        f(f"f{i}", call(f"f{i - 1}", ["a"], ["c"]), call(f"f{i - 1}", ["c"], ["b"])) for i in range(1, 40)
    ]
    content = with_nodes(call("f39", ["x"], ["y"]), functions=[innermost, *doubling])
    check(tmp_path, content, "has more than 2000 nodes")


def test_graphs_nested_by_functions_are_bounded(tmp_path: Path) -> None:
    nesting = [f("f0", NEG)]
    for i in range(1, 20):
        body = w.graph([call(f"f{i - 1}", ["a"], ["c"])], outputs=[w.value_info("c")])
        nesting.append(f(f"f{i}", w.node("If", ["a"], ["b"], w.attribute("then_branch", body, 5))))
    check(
        tmp_path, with_nodes(call("f19", ["x"], ["y"]), functions=nesting), "nested more than 12 deep after"
    )
