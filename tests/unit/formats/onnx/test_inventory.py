"""The inventory of a graph: what is counted, and that all of it can be JSON."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np

from llorch.formats.onnx.model import OnnxModel
from tests.support import onnx_writer as w
from tests.support.onnx_llama import DATA, MICROSOFT, write_llama


def test_operations_inputs_tensors_and_files_are_counted(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx", is_external=True)
    with closing(OnnxModel(path)) as source:
        found = json.loads(json.dumps(source.inventory()))
    assert (found["producer"], found["ir_version"], found["name"]) == ("hand 1", 8, "g")
    assert found["opsets"] == {"ai.onnx": 17, MICROSOFT: 1}
    assert found["operations"][:2] == [
        {"op_type": "MatMul", "domain": "ai.onnx", "count": 15},
        {"op_type": "SimplifiedLayerNormalization", "domain": "ai.onnx", "count": 5},
    ]
    assert {"op_type": "GroupQueryAttention", "domain": MICROSOFT, "count": 2} in found["operations"]
    assert found["n_nodes"] == sum(row["count"] for row in found["operations"]) == 33
    assert found["inputs"][0] == {"name": "input_ids", "type": "int64", "shape": ["batch", "n"]}
    assert found["outputs"][1] == {"name": "present.0.key", "type": "float32", "shape": None}
    assert [row["count"] for row in found["initializers"]] == [23]
    assert found["files"] == [{"location": DATA, "bytes": (tmp_path / DATA).stat().st_size, "checksum": None}]


def test_nested_graphs_are_counted_and_constants_that_inputs_repeat_are_no_inputs(tmp_path: Path) -> None:
    body = w.graph(
        [w.node("Neg", ["k"], ["z"])], [w.tensor("k", np.ones(3, np.float16))], outputs=[w.value_info("z")]
    )
    content = w.graph(
        [w.node("Neg", ["t"], ["a"]), w.node("If", ["a"], ["y"], w.attribute("then_branch", body, 5))],
        [w.tensor("t", np.ones(2, np.float32))],
        [w.value_info("t")],
        [w.value_info("y")],
        more=w.block(15, w.block(1, w.tensor("s", np.ones(1, np.float32)))),
    )
    with closing(OnnxModel(w.write(tmp_path / "m.onnx", w.model(content)))) as source:
        found = source.inventory()
    assert found["operations"] == [
        {"op_type": "Neg", "domain": "ai.onnx", "count": 2},
        {"op_type": "If", "domain": "ai.onnx", "count": 1},
    ]
    assert found["inputs"] == []
    assert found["initializers"] == [
        {"dtype": "float32", "count": 1, "bytes": 8},
        {"dtype": "float16", "count": 1, "bytes": 6},
    ]
    assert found["sparse_initializers"] == ["s"]
