"""The stored exports of `tests/golden/onnx`, and graphs made of them by changing a node or a constant."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llorch.formats.onnx.graph import Graph, Node, OnnxTensor
from llorch.formats.onnx.open_graph import OpenGraph, read_graph

GOLDEN = Path(__file__).parents[1] / "golden" / "onnx"
QUANTIZED = "genai_int4"


def export_names() -> list[str]:
    """Names of the exports that onnxruntime computed logits with."""
    with np.load(GOLDEN / "logits.npz") as stored:
        return sorted(set(stored.files) - {"prompt"})


def golden_logits(name: str) -> tuple[list[int], NDArray[np.float32]]:
    """The prompt, and onnxruntime's logits of all its tokens."""
    with np.load(GOLDEN / "logits.npz") as stored:
        return stored["prompt"].tolist(), stored[name]


def unpack(name: str, folder: Path) -> Path:
    """Write an export into a folder; returns the path of its graph."""
    with zipfile.ZipFile(GOLDEN / "exports.zip") as packed:
        for member in packed.namelist():
            if member.startswith(f"{name}/"):
                packed.extract(member, folder)
    return folder / name / "model.onnx"


def opened(name: str, folder: Path) -> OpenGraph:
    """The graph of an export."""
    return read_graph(unpack(name, folder))


def with_node(graph: Graph, pick: Callable[[Node], bool], nth: int = 0, **changes: Any) -> tuple[Graph, Node]:
    """The graph with another node in the place of the nth that `pick` takes, and the new node."""
    place = [i for i, node in enumerate(graph.nodes) if pick(node)][nth]
    node = replace(graph.nodes[place], **changes)
    return replace(graph, nodes=(*graph.nodes[:place], node, *graph.nodes[place + 1 :])), node


def of_type(op_type: str) -> Callable[[Node], bool]:
    """Takes nodes of an operation."""
    return lambda node: node.op_type == op_type


def number(name: str, value: float) -> OnnxTensor:
    """A float32 scalar."""
    return OnnxTensor(name, "float32", (), np.array([value], np.float32).view(np.uint8))
