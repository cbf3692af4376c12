"""Memory that reading a large ONNX file takes: that of its graph, whatever its weights."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from llorch.formats.onnx.open_graph import read_graph
from llorch.formats.onnx.symbolic.evaluation import Evaluation, Probe
from tests.support import onnx_writer as w
from tests.support.onnx_llama import write_llama

N_BYTES = 200 << 20


def test_weights_of_200_mb_inside_the_file_are_not_copied(tmp_path: Path) -> None:
    """The file has a hole in place of the weights, so that the disk is spared, too."""
    head = w.integer(1, N_BYTES // 4) + w.integer(2, 1) + w.block(8, "t") + w.block(9, b"", N_BYTES)
    tensor = w.key(5, w.BYTES) + w.varint(len(head) + N_BYTES) + head
    graph = w.key(7, w.BYTES) + w.varint(len(tensor) + N_BYTES) + tensor
    path = w.write(tmp_path / "m.onnx", w.integer(1, 8) + w.block(8, w.opset_id("", 17)) + graph)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + N_BYTES)
    tracemalloc.start()
    try:
        opened = read_graph(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opened.graph.initializers["t"].data.nbytes == N_BYTES
    assert peak < 1 << 20
    opened.close()


def test_tables_in_half_precision_are_widened_once_for_all_layers(tmp_path: Path) -> None:
    opened = read_graph(write_llama(tmp_path / "m.onnx", dtype="float16"))
    tables = Evaluation(opened.graph, Probe(np.array([[3, 2, 1]]))).tables
    assert len(tables) >= 2, "one for each layer"
    assert all(np.shares_memory(cosines, tables[0][0]) for cosines, _ in tables)
    opened.close()
