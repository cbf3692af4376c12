"""Graphs that compute anything else than Llama are refused, and the message names the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import OnnxError
from llorch.formats.onnx.graph import Graph, Node, OnnxTensor, ValueInfo
from llorch.formats.onnx.recognise import recognise
from tests.support.onnx_exports import QUANTIZED, number, of_type, opened, with_node


@pytest.fixture
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Graph]:
    with closing(opened(getattr(request, "param", "torchscript"), tmp_path)) as found:
        yield found.graph


def refusal(graph: Graph) -> str:
    with pytest.raises(OnnxError) as caught:
        recognise(graph, "model.onnx")
    message = str(caught.value)
    assert message.startswith("model.onnx: ")
    return message


def changed_constant(graph: Graph, name: str, value: OnnxTensor) -> Graph:
    """The graph in which a Constant node or an initializer holds another number."""
    if name in graph.initializers:
        return replace(graph, initializers={**graph.initializers, name: value})
    return with_node(graph, lambda node: name in node.outputs, attributes={"value": value})[0]


def epsilon_of(graph: Graph, nth: int) -> str:
    roots = [node for node in graph.nodes if node.op_type == "Sqrt" and "norm" in node.name]
    sums = {node.outputs[0]: node for node in graph.nodes}
    return sums[roots[nth].inputs[0]].inputs[1]


def test_another_activation_is_named(graph: Graph) -> None:
    other, node = with_node(graph, of_type("Sigmoid"), op_type="Tanh")
    assert f"{node.label}: this operation on activations is not known" in refusal(other)


def test_a_norm_with_another_power_is_named(graph: Graph) -> None:
    node = next(node for node in graph.nodes if node.op_type == "Pow" and "norm" in node.name)
    message = refusal(changed_constant(graph, node.inputs[1], number("p", 3.0)))
    assert f"{node.label}: only squares and square roots" in message


def test_norms_of_different_epsilons_are_refused(graph: Graph) -> None:
    message = refusal(changed_constant(graph, epsilon_of(graph, 1), number("e", 1e-3)))
    assert "different epsilons, 1e-05, 0.001" in message


def scaled_scores(graph: Graph) -> list[str]:
    """Names of the factors on scores, one of each layer."""
    scores = {f"/model/model/layers.{i}/self_attn/MatMul_output_0" for i in (0, 1)}
    return [node.inputs[1] for node in graph.nodes if node.op_type == "Mul" and node.inputs[0] in scores]


def test_another_factor_on_scores_is_refused(graph: Graph) -> None:
    for name in scaled_scores(graph):
        graph = changed_constant(graph, name, number("s", 0.5))
    assert "attention multiplies scores with 0.5, expected 1/sqrt(8) = 0.353553" in refusal(graph)


def test_layers_of_different_factors_on_scores_are_refused(graph: Graph) -> None:
    message = refusal(changed_constant(graph, scaled_scores(graph)[1], number("s", 0.5)))
    assert "factor on scores: 0.5 in layer 1, but 0.353553" in message


def test_a_mask_that_is_not_causal_is_refused(graph: Graph) -> None:
    other, _ = with_node(graph, of_type("Trilu"), attributes={"upper": 0})
    assert "is not causal" in refusal(other)


def test_queries_of_another_input_are_refused(graph: Graph) -> None:
    product = next(node for node in graph.nodes if node.op_type == "MatMul" and "q_proj" in node.name)
    embedded = next(node for node in graph.nodes if node.op_type == "Gather" and "embed" in node.name)
    other, _ = with_node(graph, lambda node: node is product, inputs=(embedded.outputs[0], product.inputs[1]))
    assert "attn_q, attn_k and attn_v share" in refusal(other)


def test_a_missing_residual_is_refused(graph: Graph) -> None:
    add = next(node for node in graph.nodes if node.name == "/model/model/layers.1/Add")
    other, _ = with_node(graph, lambda node: node is add, op_type="Mul")
    assert "the residual stream plus" in refusal(other)


def test_an_unknown_output_is_named(graph: Graph) -> None:
    node = next(node for node in graph.nodes if node.op_type == "Sigmoid")
    other = replace(graph, outputs=(*graph.outputs, ValueInfo(node.outputs[0], "float32", None)))
    message = refusal(other)
    assert f"output {node.outputs[0]!r}" in message
    assert node.label in message


def test_an_unknown_input_is_named(graph: Graph) -> None:
    other = replace(graph, inputs=(*graph.inputs, ValueInfo("pixels", "float32", (1, 3, None, None, 4))))
    assert "input 'pixels'" in refusal(other)


def test_a_fixed_number_of_tokens_is_refused_with_the_next_step(graph: Graph) -> None:
    fixed = tuple(
        replace(given, shape=(1, 8)) if given.name == "input_ids" else given for given in graph.inputs
    )
    assert "export the model with dynamic axes" in refusal(replace(graph, inputs=fixed))


def test_a_value_that_no_node_makes_is_named(graph: Graph) -> None:
    other = replace(graph, nodes=tuple(node for node in graph.nodes if node.op_type != "Softmax"))
    assert "is made by no node" in refusal(other)


@pytest.mark.parametrize("graph", [QUANTIZED], indirect=True)
def test_quantised_weights_are_refused_by_name_with_the_next_step(graph: Graph) -> None:
    message = refusal(graph)
    assert "MatMulNBits node '/model/layers.0/attn/qkv_proj/MatMul_Q4'" in message
    assert "-p fp32" in message
    assert "llorch convert" in message


@pytest.mark.parametrize("graph", ["genai"], indirect=True)
@pytest.mark.parametrize(
    ("attribute", "value"), [("local_window_size", 64), ("softcap", 50.0), ("smooth_softmax", 1)]
)
def test_attention_that_llama_does_not_have_is_refused(graph: Graph, attribute: str, value: float) -> None:
    node = next(node for node in graph.nodes if node.op_type == "GroupQueryAttention")
    other, _ = with_node(graph, lambda found: found is node, attributes={**node.attributes, attribute: value})
    assert f"{node.label}: {attribute} is {value}" in refusal(other)


@pytest.mark.parametrize("graph", ["genai"], indirect=True)
def test_a_table_whose_angles_do_not_grow_evenly_is_refused(graph: Graph) -> None:
    table = graph.initializers["cos_cache"]
    numbers = table.values().copy()
    numbers[200:] = 0.5
    other = {**graph.initializers, "cos_cache": replace(table, data=numbers.view(np.uint8).ravel())}
    assert "angles that grow evenly" in refusal(replace(graph, initializers=other))


def test_a_graph_without_weights_is_refused() -> None:
    node = Node("n", "Identity", "", ("input_ids",), ("logits",), {})
    given = ValueInfo("input_ids", "int64", ("b", "s"))
    graph = Graph((node,), {}, (given,), (ValueInfo("logits", "int64", None),), {"": 17}, "")
    assert "expected logits" in refusal(graph)
