"""`llorch inspect` on ONNX graphs: of a Llama, of another model, and of a file that is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llorch.cli.console import human_bytes
from llorch.cli.main import main
from tests.support import onnx_writer as w
from tests.support.onnx_exports import QUANTIZED, unpack
from tests.support.onnx_llama import DATA, write_llama

Captured = pytest.CaptureFixture[str]


def test_the_inventory_of_a_llama_and_how_it_would_run(tmp_path: Path, capsys: Captured) -> None:
    write_llama(tmp_path / "model.onnx", is_external=True)
    assert main(["inspect", "-m", str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "opsets ai.onnx 17, com.microsoft 1",
        "operations (33)",
        "MatMul ai.onnx 15",
        "GroupQueryAttention com.microsoft 2",
        "input_ids int64 batch x n",
        "present.0.key float32 unknown shape",
        "initializers (23)",
        "external files (1)",
        f"{DATA} {human_bytes((tmp_path / DATA).stat().st_size)}",
        "llama.block_count 2",
    ):
        assert any(line in found for found in lines), line


def test_json_has_the_inventory_under_graph(tmp_path: Path, capsys: Captured) -> None:
    assert main(["inspect", "-m", str(write_llama(tmp_path / "model.onnx")), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["graph"]["operations"][0] == {"op_type": "MatMul", "domain": "ai.onnx", "count": 15}
    assert document["metadata"]["llama.block_count"] == 2
    assert len(document["tensors"]) == 21


def test_the_model_may_stand_without_its_flag_but_not_twice(tmp_path: Path, capsys: Captured) -> None:
    path = str(write_llama(tmp_path / "model.onnx"))
    assert main(["inspect", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == path
    assert main(["inspect", path, "-m", path]) == 2
    assert "name one model" in capsys.readouterr().err


def test_a_graph_of_another_model_is_described_and_what_is_wrong_said(
    tmp_path: Path, capsys: Captured
) -> None:
    path = w.write(tmp_path / "m.onnx", w.identity_model())
    assert main(["inspect", "-m", str(path)]) == 0
    out = capsys.readouterr().out
    assert "Identity  ai.onnx  1" in out
    assert "llorch cannot generate with this file: " in out
    assert main(["inspect", "-m", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["graph"]["n_nodes"], document["metadata"], document["tensors"]) == (1, {}, [])
    assert str(path) in document["problem"]


def test_names_of_a_graph_cannot_send_codes_to_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    bad = "\x1b[31m\nred"
    content = w.model(
        w.graph([w.node(bad, [bad], ["y"], domain=bad)], [], [w.value_info(bad, 1, [bad])], [], name=bad),
        opsets={"": 17, bad: 1},
        more=w.block(14, w.pair(bad, bad)),
    )
    assert main(["inspect", "-m", str(w.write(tmp_path / "m.onnx", content))]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_damaged_graph_is_one_line_and_exit_code_2(tmp_path: Path, capsys: Captured) -> None:
    path = write_llama(tmp_path / "model.onnx", is_external=True)
    (tmp_path / DATA).unlink()
    assert main(["inspect", "-m", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"names the file '{DATA}', which is missing in" in captured.err
    assert captured.err.count("\n") == 1


def test_a_quantised_export_is_described_and_its_node_named(tmp_path: Path, capsys: Captured) -> None:
    assert main(["inspect", "-m", str(unpack(QUANTIZED, tmp_path).parent), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["graph"]["operations"][0] == {
        "op_type": "MatMulNBits",
        "domain": "com.microsoft",
        "count": 11,
    }
    assert [row["dtype"] for row in document["graph"]["initializers"]] == ["float32", "uint8"]
    assert [row["location"] for row in document["graph"]["files"]] == [DATA]
    assert "MatMulNBits node '/model/layers.0" in document["problem"]
