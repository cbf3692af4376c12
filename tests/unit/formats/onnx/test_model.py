"""An ONNX model as a `ModelSource`: graph, weights, the files beside it, and what they must agree on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import InputError, LlorchError, ModelError, OnnxError
from llorch.formats.onnx.model import OnnxModel
from llorch.formats.source import open_source
from llorch.quant.tensor import dequantize
from tests.support import onnx_writer as w
from tests.support.onnx_llama import CONFIG, DATA, EPSILON, N_CTX, N_EMBD, N_VOCAB, llama_graph, write_llama
from tests.support.small_models import Run, open_model


@pytest.fixture
def source(tmp_path: Path) -> Iterator[OnnxModel]:
    with OnnxModel(write_llama(tmp_path / "tiny" / "model.onnx", is_external=True)) as opened:
        yield opened


def with_config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def test_a_graph_appears_under_gguf_names(source: OnnxModel) -> None:
    expected = {"general.name": "tiny", "general.architecture": "llama", "llama.vocab_size": N_VOCAB}
    assert {key: source.metadata[key] for key in expected} == expected
    assert source.metadata["llama.context_length"] == N_CTX
    info = source.tensor_infos["token_embd.weight"]
    assert (info.name, info.type_name, info.shape) == ("token_embd.weight", "F32", (N_VOCAB, N_EMBD))
    assert info.n_bytes == 4 * N_VOCAB * N_EMBD
    assert set(source.tensor_infos) == set(source.tensors)


def test_tensors_have_the_values_of_the_graph_and_lie_in_its_files(source: OnnxModel) -> None:
    _, _, values = llama_graph()
    up = source.tensors["blk.1.ffn_up.weight"]
    np.testing.assert_array_equal(dequantize(up), values["l1.up.weight"].T)
    assert not up.data.flags.owndata
    source.forget_pages()
    source.close()
    np.testing.assert_array_equal(dequantize(up), values["l1.up.weight"].T)
    with pytest.raises(LlorchError, match="is closed"):
        _ = source.tensors


def test_an_embedding_may_be_the_head_read_the_other_way(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx", is_tied=True)
    _, _, values = llama_graph(is_tied=True)
    with OnnxModel(path) as source:
        assert "output.weight" not in source.tensors
        table = source.tensors["token_embd.weight"]
        np.testing.assert_array_equal(dequantize(table), values["lm_head"].T)
        logits = []
        for residence in ("mapped", "packed"):
            with open_model(path, residence=residence) as model:
                logits.append(Run(model.llama).prefill([1, 5, 60]))
    assert np.isfinite(logits[0]).all()
    np.testing.assert_array_equal(logits[0], logits[1])


def test_the_hash_covers_the_graph_its_data_and_the_files_beside_it_in_this_order(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx", is_external=True)
    with_config(tmp_path)
    parts = [(tmp_path / name).read_bytes() for name in ("model.onnx", DATA, "config.json")]
    with closing(OnnxModel(path)) as source:
        assert source.hashed() == (sum(map(len, parts)), hashlib.sha256(b"".join(parts)).hexdigest())
        assert source.n_bytes == sum(map(len, parts))


@pytest.mark.parametrize("name", ["model.onnx", DATA, "config.json"])
def test_a_file_that_is_written_to_is_noticed(name: str, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx", is_external=True)
    with_config(tmp_path)
    with closing(OnnxModel(path)) as source:
        assert source.changed() is None
        with (tmp_path / name).open("ab") as file:
            file.write(b"?")
        assert str(source.changed()).startswith(f"{name} had ")
        with pytest.raises(OnnxError, match="was changed since it was opened"):
            source.hashed()


def test_a_config_gives_the_context_length(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx")
    with_config(tmp_path)
    with closing(OnnxModel(path)) as source:
        assert source.metadata["llama.context_length"] == 2 * N_CTX


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"num_hidden_layers": 3},
            r"llama.block_count = 2, but .*config.json says num_hidden_layers = 3: one of",
        ),
        ({"intermediate_size": 32}, r"feed_forward_length = 24, but .* intermediate_size = 32"),
        ({"num_key_value_heads": 2}, r"head_count_kv = 1, but .* num_key_value_heads = 2"),
        ({"head_dim": 16}, r"key_length = 8, but .* head_dim = 16"),
        ({"rms_norm_eps": 1e-6}, r"epsilon = 1e-05, but .* rms_norm_eps = 1e-06"),
        ({"rope_theta": 5e5}, r"freq_base = 10000, but .* rope_theta = 500000"),
        ({"vocab_size": 65}, r"vocab_size = 64, but .* vocab_size = 65"),
        ({"hidden_size": 32}, r"embedding_length = 16, but .* hidden_size = 32"),
        ({"architectures": ["GPT2LMHeadModel"]}, "config.json.*GPT2LMHeadModel.*not supported"),
    ],
)
def test_a_config_of_another_model_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx")
    with_config(tmp_path, **changes)
    with closing(OnnxModel(path)) as source, pytest.raises(ModelError, match=said):
        _ = source.metadata


def test_numbers_of_a_config_may_differ_in_rounding(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx")
    with_config(tmp_path, rms_norm_eps=EPSILON * (1 + 1e-6))
    with closing(OnnxModel(path)) as source:
        assert source.metadata["llama.block_count"] == 2


@pytest.mark.parametrize(
    ("graph", "named"),
    [
        ("model.onnx", "."),
        ("model.onnx", "model.onnx"),
        ("onnx/model.onnx", "onnx"),
        ("onnx/decoder_model.onnx", "onnx"),
        ("onnx/model.onnx", "."),
    ],
)
def test_a_graph_is_found_by_its_folder_and_its_config_one_level_up(
    graph: str, named: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    write_llama(folder / graph, is_external=True)
    with_config(folder)
    with closing(open_source(folder / named)) as source:
        assert source.path == folder / graph
        assert source.metadata["general.name"] == "tiny"
        assert source.metadata["llama.context_length"] == 2 * N_CTX


def test_a_config_in_the_folder_onnx_comes_before_the_one_above(tmp_path: Path) -> None:
    write_llama(tmp_path / "onnx" / "model.onnx")
    with_config(tmp_path / "onnx")
    with_config(tmp_path, num_hidden_layers=7)
    with closing(OnnxModel(tmp_path / "onnx" / "model.onnx")) as source:
        assert source.metadata["llama.block_count"] == 2


def test_a_snapshot_of_the_hub_is_named_by_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--maker--tiny" / "snapshots" / "0f"
    with closing(OnnxModel(write_llama(folder / "onnx" / "model.onnx"))) as source:
        (folder / "config.json").write_text(json.dumps(CONFIG))
    with closing(OnnxModel(folder / "onnx" / "model.onnx")) as source:
        assert source.metadata["general.name"] == "maker/tiny"


def test_the_tokenizer_beside_the_graph_is_read(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.onnx")
    (tmp_path / "tokenizer.json").write_text("{")
    with closing(OnnxModel(path)) as source, pytest.raises(ModelError, match=r"tokenizer\.json"):
        _ = source.metadata


def test_two_graphs_in_a_folder_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("model.onnx", "model_fp16.onnx"):
        write_llama(tmp_path / name)
    with pytest.raises(InputError, match=r"name one of them: model\.onnx, model_fp16\.onnx"):
        open_source(tmp_path)


def test_two_graphs_in_the_folder_onnx_must_be_told_apart(tmp_path: Path) -> None:
    for name in ("model.onnx", "model_fp16.onnx"):
        write_llama(tmp_path / "onnx" / name)
    with pytest.raises(InputError, match=r"name one of them: onnx/model\.onnx, onnx/model_fp16\.onnx"):
        open_source(tmp_path)


def test_sparse_weights_are_refused_with_the_next_step(tmp_path: Path) -> None:
    sparse = w.block(1, w.tensor("s", np.ones(1, np.float32)))
    path = w.write(tmp_path / "m.onnx", w.model(w.graph(more=w.block(15, sparse))))
    with (
        closing(OnnxModel(path)) as source,
        pytest.raises(OnnxError, match=r"'s' is sparse, .* dense weights"),
    ):
        _ = source.metadata


def test_a_checksum_is_compared_before_tensors_are_given_out_and_not_for_the_inventory(
    tmp_path: Path,
) -> None:
    path = write_llama(tmp_path / "model.onnx", is_external=True, checksum="0" * 40)
    with closing(OnnxModel(path)) as source:
        assert source.inventory()["files"][0]["checksum"] == "0" * 40
        with pytest.raises(OnnxError, match=r"states the SHA-1 0{40}"):
            _ = source.tensors


def test_a_graph_that_is_no_llama_opens_and_has_an_inventory(tmp_path: Path) -> None:
    with closing(OnnxModel(w.write(tmp_path / "m.onnx", w.identity_model()))) as source:
        assert source.inventory()["n_nodes"] == 1
        for property_name in ("metadata", "tensors", "tensor_infos"):
            with pytest.raises(OnnxError, match=r"m\.onnx"):
                getattr(source, property_name)


def test_files_beside_the_graph_that_lead_out_of_its_directory_are_refused(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model" / "model.onnx")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(OnnxError, match=r"a link to .* outside its directory"):
        OnnxModel(path)
