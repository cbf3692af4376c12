"""`llorch inspect --proof`: the `loading` bundle, and what of it must follow from the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llorch.cli.main import main
from tests.support import size_table
from tests.support.proof import GOLDEN, rehash


@pytest.fixture
def loading_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    words = ["inspect", "-m", str(GOLDEN / "tiny.gguf"), "--proof", "--proof-dir", str(tmp_path), "--json"]
    assert main(words) == 0
    return Path(json.loads(capsys.readouterr().out)["bundle"])


def test_a_loading_bundle_is_written_and_verifies(
    loading_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((loading_bundle / "loading.json").read_text())
    assert {check["passed"] for check in document["checks"]} == {True}
    assert sum(check["name"].startswith("refused: ") for check in document["checks"]) == 9
    assert set(document["timings"]) == {
        "open_and_check_header_s", "hash_s", "check_config_and_weights_s", "load_tokenizer_s", "load_kernels_s",
        "place_weights_s", "first_step_s",
    }  # fmt: skip
    assert all(seconds >= 0 for seconds in document["timings"].values())
    assert main(["validate", "--verify", str(loading_bundle)]) == 0
    rows = (loading_bundle / "tensors.ndjson").read_text().replace('"bytes": 2176', '"bytes": 2177')
    (loading_bundle / "tensors.ndjson").write_text(rows)
    rehash(loading_bundle)
    assert main(["validate", "--verify", str(loading_bundle)]) == 1
    assert "type and shape give 2176" in capsys.readouterr().out


def test_a_bundle_of_a_model_with_biases_and_yarn_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = size_table.write("a bias of k alone, with yarn", tmp_path)
    assert main(["inspect", "-m", str(model), "--proof", "--proof-dir", str(tmp_path), "--json"]) == 0
    bundle = Path(json.loads(capsys.readouterr().out)["bundle"])
    assert json.loads((bundle / "loading.json").read_text())["config"]["n_ctx_orig_yarn"] == 64
    assert main(["validate", "--verify", str(bundle)]) == 0
    path = bundle / "tensors.ndjson"
    path.write_text(path.read_text().replace("attn_k.bias", "attn_q.bias"))
    rehash(bundle)
    assert main(["validate", "--verify", str(bundle)]) == 1
    assert "blk.0.attn_q.bias: shape [32], sizes give [64]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["output.weight", "token_embd.weight", "blk.1.ffn_down.weight"])
def test_a_matrix_of_another_shape_does_not_verify(
    name: str, loading_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shape has as many values as the right one, so that its size in bytes is right."""
    path = loading_bundle / "tensors.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (row,) = (row for row in rows if row.get("name") == name)
    n_out, n_in = row["shape"]
    row["shape"] = [n_out // 2, n_in * 2]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rehash(loading_bundle)
    assert main(["validate", "--verify", str(loading_bundle)]) == 1
    assert f"{name}: shape {row['shape']}, sizes give {[n_out, n_in]}" in capsys.readouterr().out


def test_more_layers_than_tensors_do_not_verify(
    loading_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = loading_bundle / "loading.json"
    path.write_text(path.read_text().replace('"n_layer": 2', '"n_layer": 1000000000000'))
    rehash(loading_bundle)
    assert main(["validate", "--verify", str(loading_bundle)]) == 1
    assert "too few for 1000000000000 layers" in capsys.readouterr().out
