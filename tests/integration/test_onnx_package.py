"""Reading ONNX against the `onnx` package: files it writes, every number equal; and files of the tests' own writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.formats.onnx.graph import Graph
from llorch.formats.onnx.open_graph import read_graph
from llorch.formats.onnx.proto import IR_VERSIONS, OPSETS
from tests.support import onnx_writer as w
from tests.support.onnx_exports import unpack
from tests.support.onnx_llama import write_llama

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
inliner = pytest.importorskip("onnx.inliner", reason="the onnx package is not installed")
numpy_helper, helper = onnx.numpy_helper, onnx.helper

RNG = np.random.default_rng(0)
NOT_IN_NUMPY = ("FLOAT8E4M3FN", "FLOAT8E5M2", "UINT4", "INT4", "FLOAT4E2M1")
NAMES = [
    "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BOOL", "FLOAT16", "DOUBLE", "UINT32", "UINT64",
    "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "UINT4", "INT4", "FLOAT4E2M1",
]  # fmt: skip


def saved(path: Path, tensors: list[Any], **options: Any) -> Graph:
    node = helper.make_node("Identity", ["x"], ["y"])
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    content = helper.make_graph([node], "g", infos[:1], infos[1:], tensors)
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path, **options)
    opened = read_graph(path)
    opened.close()
    return opened.graph


@pytest.mark.parametrize("is_raw", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_every_type_are_those_of_the_package(name: str, is_raw: bool, tmp_path: Path) -> None:
    number = onnx.TensorProto.DataType.Value(name)
    lowest = 0 if name.startswith(("U", "BOOL")) else -4
    values = RNG.integers(lowest, 2 if name == "BOOL" else 4, (3, 5)).astype(
        helper.tensor_dtype_to_np_dtype(number)
    )
    tensor = (
        numpy_helper.from_array(values, "t")
        if is_raw
        else helper.make_tensor("t", number, (3, 5), values.ravel())
    )
    found = saved(tmp_path / "m.onnx", [tensor]).initializers["t"]
    assert bytes(found.data) == numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    if name not in NOT_IN_NUMPY:
        read = found.values()
        expected = numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(read, expected.astype(read.dtype))


@pytest.mark.parametrize("is_one_file", [True, False])
def test_external_data_as_the_package_writes_it(is_one_file: bool, tmp_path: Path) -> None:
    values = {f"t{i}": RNG.standard_normal((40, 50 + i)).astype(np.float32) for i in range(3)}
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = saved(
        tmp_path / "m.onnx",
        tensors,
        save_as_external_data=True,
        all_tensors_to_one_file=is_one_file,
        size_threshold=0,
    )
    for name, value in values.items():
        np.testing.assert_array_equal(graph.initializers[name].values(), value)
    assert len(list(tmp_path.iterdir())) == (2 if is_one_file else 4)


def test_the_package_accepts_what_the_writer_of_the_tests_writes(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx", is_external=True)
    loaded = onnx.load(path)
    opened = read_graph(path)
    opened.close()
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}
    assert list(expected) == list(opened.graph.initializers)
    for name, value in expected.items():
        np.testing.assert_array_equal(opened.graph.initializers[name].values(), value)
    assert [(n.op_type, n.domain, tuple(n.input), tuple(n.output)) for n in loaded.graph.node] == [
        (n.op_type, n.domain, n.inputs, n.outputs) for n in opened.graph.nodes
    ]
    for node, found in zip(loaded.graph.node, opened.graph.nodes, strict=True):
        assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == dict(found.attributes)
    onnx.checker.check_model(onnx.load_from_string(w.model(w.graph(*_checked()))))


def _checked() -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
    """A graph that the package's checker knows every operation of."""
    nodes = [w.node("Add", ["x", "t"], ["a"]), w.node("Softmax", ["a"], ["y"], w.attribute("axis", -1))]
    tensors = [w.tensor("t", np.ones(3, np.float32))]
    return nodes, tensors, [w.value_info("x", 1, ["n", 3])], [w.value_info("y", 1, ["n", 3])]


@pytest.mark.parametrize("name", ["dynamo_past", "genai", "genai_int4", "optimum_past", "torchscript_f16"])
def test_real_exports_are_read_as_the_package_reads_them(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    expected = onnx.load(path)
    opened = read_graph(path)
    opened.close()
    graph = opened.graph
    assert [node.op_type for node in graph.nodes] == [node.op_type for node in expected.graph.node]
    assert [(n.inputs, n.outputs) for n in graph.nodes] == [
        (tuple(n.input), tuple(n.output)) for n in expected.graph.node
    ]
    for tensor in expected.graph.initializer:
        np.testing.assert_array_equal(graph.initializers[tensor.name].values(), numpy_helper.to_array(tensor))
    assert len(graph.initializers) == len(expected.graph.initializer)
    for node, found in zip(expected.graph.node, graph.nodes, strict=True):
        for attribute in node.attribute:
            value: Any = helper.get_attribute_value(attribute)
            own: Any = found.attributes[attribute.name]
            if attribute.type == onnx.AttributeProto.TENSOR:
                np.testing.assert_array_equal(own.values(), numpy_helper.to_array(value))
            elif attribute.type in (
                onnx.AttributeProto.STRING,
                onnx.AttributeProto.FLOAT,
                onnx.AttributeProto.INT,
            ):
                assert own == (value.decode() if isinstance(value, bytes) else value)


def test_functions_are_put_in_as_the_package_does(tmp_path: Path) -> None:
    body = [w.node("Neg", ["a"], ["t"]), w.node("Elu", ["t"], ["b"], w.reference("alpha", "strength", 1))]
    function = w.function("f", "local", ["a"], ["b"], body) + w.block(6, "strength")
    calls = [
        w.node("f", ["x"], ["u"], w.attribute("strength", 0.5), domain="local"),
        w.node("f", ["u"], ["y"], w.attribute("strength", 2.0), domain="local"),
    ]
    content = w.model(
        w.graph(calls, (), [w.value_info("x", 1, [3])], [w.value_info("y", 1, [3])]),
        opsets={"": 17, "local": 1},
        functions=[function],
    )
    opened = read_graph(w.write(tmp_path / "m.onnx", content))
    opened.close()
    expected = inliner.inline_local_functions(onnx.load_from_string(content)).graph.node
    assert [node.op_type for node in expected] == [node.op_type for node in opened.graph.nodes]
    alphas = [helper.get_attribute_value(node.attribute[0]) for node in expected if node.attribute]
    assert alphas == [node.attributes["alpha"] for node in opened.graph.nodes if node.attributes]


def test_the_supported_versions_include_the_newest_of_the_package() -> None:
    assert onnx.IR_VERSION in IR_VERSIONS
    assert onnx.defs.onnx_opset_version() in OPSETS
