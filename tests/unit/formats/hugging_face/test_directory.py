"""A Hugging Face directory is a model source: metadata, tensors, a hash, and what has happened to it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import LlorchError, ModelError
from llorch.formats.hugging_face.directory import HuggingFaceDirectory
from llorch.formats.source import open_source
from tests.support.hf_directories import write_directory

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "tiny-1.5", config={"rope_scaling": LLAMA3}, shards=2)


def in_hub_cache(directory: Path, cache: Path) -> Path:
    """The directory as the hub's cache keeps it: contents by hash, and a snapshot of links to them."""
    home = cache / "models--some-one--Tiny-1.5"
    snapshot = home / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for file in directory.iterdir():
        blob = home / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_config_weights_and_vocabulary_come_under_ggufs_names(path: Path) -> None:
    with HuggingFaceDirectory(path) as source:
        assert source.path == path
        assert source.metadata["general.architecture"] == "llama"
        assert source.metadata["general.name"] == "tiny-1.5"
        assert source.metadata["llama.block_count"] == 2
        assert len(source.metadata["tokenizer.ggml.tokens"]) == 384  # type: ignore[arg-type]
        assert source.tensors.keys() == source.tensor_infos.keys()
        for name, tensor in source.tensors.items():
            info = source.tensor_infos[name]
            assert (info.shape, info.type_name, info.n_bytes) == (
                tensor.shape,
                tensor.type.name,
                tensor.n_bytes,
            )


def test_a_scaling_without_a_key_of_gguf_is_a_tensor(path: Path) -> None:
    source = HuggingFaceDirectory(path)
    divisors = source.tensors["rope_freqs.weight"].data.view(np.float32)
    assert divisors.shape == (8,)
    assert (divisors[0], divisors[-1]) == (1.0, 8.0)
    assert source.tensor_infos["rope_freqs.weight"].n_bytes == 32


def test_the_hash_is_of_every_file_that_counts(path: Path) -> None:
    (path / "README.md").write_text("does not count")
    n_bytes, sha256 = HuggingFaceDirectory(path).hashed()
    files = [path / "config.json", *sorted(p for p in path.glob("*.json") if p.name != "config.json")]
    content = b"".join(file.read_bytes() for file in [*files, *sorted(path.glob("*.safetensors"))])
    assert (n_bytes, sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_templates_in_a_folder_of_their_own_count_and_empty_files_do_not(path: Path) -> None:
    before = HuggingFaceDirectory(path).hashed()
    (path / "special_tokens_map.json").unlink()
    without = HuggingFaceDirectory(path).hashed()
    assert before != without
    (path / "chat_template.jinja").write_text("")
    assert HuggingFaceDirectory(path).hashed() == without
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    assert HuggingFaceDirectory(path).hashed()[0] == without[0] + 14


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model-00002-of-00002.safetensors"])
def test_a_file_that_is_written_to_shows_and_is_not_hashed(path: Path, name: str) -> None:
    source = HuggingFaceDirectory(path)
    assert source.changed() is None
    with (path / name).open("ab") as file:
        file.write(b" ")
    assert name in str(source.changed())
    with pytest.raises(ModelError, match="was changed since it was opened"):
        source.hashed()


def test_tensors_outlive_the_directory(path: Path) -> None:
    source = HuggingFaceDirectory(path)
    tensor = source.tensors["output.weight"]
    before = tensor.all_rows().copy()
    source.forget_pages()
    source.close()
    source.close()
    assert source.changed() is None
    assert np.array_equal(tensor.all_rows(), before)
    with pytest.raises(LlorchError, match="is closed"):
        source.tensors  # noqa: B018


def test_a_snapshot_of_links_is_a_directory_named_after_its_repository(path: Path, tmp_path: Path) -> None:
    snapshot = in_hub_cache(path, tmp_path / "hub")
    with open_source(snapshot) as source:  # type: ignore[attr-defined]
        assert source.metadata["general.name"] == "some-one/Tiny-1.5"
        assert source.hashed() == HuggingFaceDirectory(path).hashed()


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors", "tokenizer_config.json"])
def test_a_link_out_of_the_directory_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=f"names the file '{name}', a link to .* outside its directory"):
        HuggingFaceDirectory(path)


def test_errors_name_the_file_that_is_wrong(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"intermediate_size": 95}))
    with pytest.raises(ModelError) as caught:
        HuggingFaceDirectory(path)
    assert f"{path / 'config.json'} implies" in str(caught.value)
    assert f"{path / 'model-00001-of-00002.safetensors'}: tensor" in str(caught.value)
    (path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: is not JSON"):
        HuggingFaceDirectory(path)
    (path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        HuggingFaceDirectory(path)


def test_a_model_that_fails_to_open_leaves_no_file_open(path: Path) -> None:
    (path / "model-00002-of-00002.safetensors").write_bytes(b"cut")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ModelError):
        HuggingFaceDirectory(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_quantisation_that_llorch_does_not_run_is_refused_before_its_tensors(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="GPTQ"):
        HuggingFaceDirectory(path)
