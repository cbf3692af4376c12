"""Graphs with a few wrong nodes: refused with a message, or recognised; never another error, and never a hang."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Graph, Node
from llorch.formats.onnx.recognise import recognise
from tests.support.onnx_exports import opened

VALUES = (0, -1, 7, 1 << 40, 2.5, "x", [1, 2], [0], b"z")
N_DEFAULT, N_SLOW = 25, 300


def other_operation(node: Node, graph: Graph, random: random.Random) -> Node:
    other = random.choice(graph.nodes)
    return replace(node, op_type=other.op_type, domain=other.domain)


def other_input(node: Node, graph: Graph, random: random.Random) -> Node:
    inputs = list(node.inputs) or [""]
    names = [*random.choice(graph.nodes).outputs, *list(graph.initializers)[:5], ""]
    inputs[random.randrange(len(inputs))] = random.choice(names)
    return replace(node, inputs=tuple(inputs))


def fewer_inputs(node: Node, graph: Graph, random: random.Random) -> Node:
    return replace(node, inputs=node.inputs[:-1])


def turned_inputs(node: Node, graph: Graph, random: random.Random) -> Node:
    return replace(node, inputs=node.inputs[::-1])


def other_attribute(node: Node, graph: Graph, random: random.Random) -> Node:
    name = random.choice([*node.attributes, "axis"])
    return replace(node, attributes={**node.attributes, name: random.choice(VALUES)})


CHANGES: tuple[Callable[[Node, Graph, random.Random], Node], ...] = (
    other_operation,
    other_input,
    fewer_inputs,
    turned_inputs,
    other_attribute,
)


def mutant(graph: Graph, seed: int) -> Graph:
    chance = random.Random(seed)
    nodes = list(graph.nodes)
    for _ in range(chance.choice((1, 1, 2))):
        place = chance.randrange(len(nodes))
        nodes[place] = chance.choice(CHANGES)(nodes[place], graph, chance)
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize("name", ["torchscript_past", "dynamo_attention", "genai"])
@pytest.mark.parametrize("n", [N_DEFAULT, pytest.param(N_SLOW, marks=pytest.mark.slow)])
def test_a_mutant_of_a_graph_is_refused_or_recognised(name: str, n: int, tmp_path: Path) -> None:
    messages = []
    with closing(opened(name, tmp_path)) as found:
        for seed in range(n):
            try:
                recognise(mutant(found.graph, seed), "model.onnx")
            except OnnxError as error:
                messages.append(str(error))
    assert len(messages) > n // 4
    assert all(message.startswith("model.onnx: ") for message in messages)
