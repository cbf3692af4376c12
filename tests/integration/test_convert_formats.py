"""Models of other formats than directories of floats become GGUF files with the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llorch.cli.main import main
from llorch.formats.gguf.file import GGUFFile
from llorch.formats.source import open_source
from llorch.quant.tensor import dequantize
from tests.support.hf_directories import write_directory
from tests.support.logits import token_ids_of
from tests.support.onnx_llama import DATA, N_VOCAB, write_llama
from tests.support.small_models import Run, open_model
from tools.make_w8a8 import make_w8a8


def convert(*words: object) -> None:
    assert main(["convert", *map(str, words)]) == 0


def assert_same_values(source: Path, out: Path) -> None:
    model = open_source(source)
    with GGUFFile(out) as written:
        assert written.tensors.keys() == model.tensors.keys()
        for name, tensor in model.tensors.items():
            np.testing.assert_array_equal(dequantize(written.tensors[name]), dequantize(tensor), err_msg=name)
    model.close()


def test_int8_weights_with_scales_of_rows_become_their_products(tmp_path: Path) -> None:
    source = make_w8a8(write_directory(tmp_path / "in", dtype="BF16"), tmp_path / "int8")
    convert(source, tmp_path / "f32.gguf", "--type", "F32")
    assert_same_values(source, tmp_path / "f32.gguf")


def test_int8_weights_become_q8_0_where_no_type_is_given(tmp_path: Path) -> None:
    source = make_w8a8(write_directory(tmp_path / "in", dtype="BF16"), tmp_path / "int8")
    convert(source, tmp_path / "auto.gguf")
    model = open_source(source)
    with GGUFFile(tmp_path / "auto.gguf") as written:
        for name, tensor in model.tensors.items():
            if tensor.row_scales is not None:
                assert written.tensors[name].type.name == "Q8_0"
                exact = dequantize(tensor)
                error = np.abs(dequantize(written.tensors[name]) - exact).max()
                assert error <= np.abs(exact).max() / 127
    model.close()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("is_external", [False, True], ids=["inside", "outside"])
def test_a_graph_becomes_a_file_that_computes_the_same_bits(
    tmp_path: Path, dtype: str, is_external: bool
) -> None:
    """Matrices of graphs are transposed in the file: rows are gathered while they are written."""
    (tmp_path / "graph").mkdir()
    graph = write_llama(tmp_path / "graph" / "model.onnx", dtype=dtype, is_external=is_external)
    convert(graph, tmp_path / "out.gguf")
    assert_same_values(graph, tmp_path / "out.gguf")
    ids = token_ids_of(12, N_VOCAB)
    logits = []
    for path in (graph, tmp_path / "out.gguf"):
        with open_model(path) as model:
            logits.append(Run(model.llama, n_positions=32).prefill(ids))
    np.testing.assert_array_equal(logits[0], logits[1])


def test_no_file_of_a_graph_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model" / "onnx").mkdir(parents=True)
    graph = write_llama(tmp_path / "model" / "onnx" / "model.onnx", is_external=True)
    beside = tmp_path / "model" / "merges.txt"
    beside.write_bytes(b"kept")
    for path in (graph, graph.parent / DATA, beside):
        before = path.read_bytes()
        assert main(["convert", str(graph), str(path)]) == 2
        assert path.read_bytes() == before
        assert "lies in the directory of the model" in capsys.readouterr().err
