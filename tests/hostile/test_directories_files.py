"""Hostile directories: shards and their index, links and names that lead out, what is no file."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hf_directories import write_directory
from tests.support.hostile_directories import edit, good, model, open_everything, refused

__all__ = ["good", "model"]

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
SIDE_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A good directory in three shards."""
    return write_directory(tmp_path / "sharded", shards=3)


# Shards and their index


def weight_map(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((path / INDEX).read_bytes())["weight_map"]
    return found


@pytest.mark.parametrize("shard", SHARDS)
def test_a_missing_shard_is_named(sharded: Path, shard: str) -> None:
    (sharded / shard).unlink()
    refused(sharded, f"{INDEX}: names the file '{shard}', which is missing")


def test_shards_without_an_index_are_no_model(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    refused(sharded, f"holds shards of a model, but no {INDEX}: fetch it")


@pytest.mark.parametrize("name", ["model-00004-of-00004.safetensors", "model.safetensors"])
def test_a_shard_that_the_index_does_not_name_is_refused(sharded: Path, name: str) -> None:
    shutil.copy(sharded / SHARDS[0], sharded / name)
    refused(sharded, f"does not name '{name}', which lies beside it: of two versions of the model remove one")


def test_a_tensor_that_the_index_looks_for_elsewhere_is_refused(sharded: Path) -> None:
    name, shard = next(iter(weight_map(sharded).items()))
    other = next(each for each in SHARDS if each != shard)
    edit(sharded / INDEX, "weight_map", name, value=other)
    refused(sharded, f"says that '{other}' holds tensor '{name}', but it lies in '{shard}'")


def test_a_tensor_that_no_shard_has_is_refused(sharded: Path) -> None:
    edit(sharded / INDEX, "weight_map", "model.layers.9.mlp.up_proj.weight", value=SHARDS[0])
    refused(sharded, "no shard has it: fetch the shards again")


def test_a_tensor_that_the_index_does_not_name_is_refused(sharded: Path) -> None:
    document = json.loads((sharded / INDEX).read_bytes())
    name = next(iter(document["weight_map"]))
    del document["weight_map"][name]
    (sharded / INDEX).write_text(json.dumps(document))
    refused(sharded, f"holds tensor '{name}', but .*{INDEX} does not name it")


def test_shards_of_two_models_are_refused(sharded: Path, tmp_path: Path) -> None:
    other = write_directory(tmp_path / "other", shards=3, config={"num_hidden_layers": 1})
    shutil.copy(other / SHARDS[1], sharded / SHARDS[1])
    refused(sharded, "but it lies in|no shard has it")


@pytest.mark.parametrize(
    "change",
    [{}, {"weight_map": None}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": 1}}, {"weight_map": "x"},
     {"weight_map": {"a": ["x"]}}, {"weight_map": {"a": None}}],
)  # fmt: skip
def test_an_index_of_another_kind_is_refused(sharded: Path, change: dict[str, Any]) -> None:
    (sharded / INDEX).write_text(json.dumps(change))
    refused(sharded, f"{INDEX}: weight_map: ")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"weight_map":{},"weight_map":{}}']
)
def test_an_index_that_is_no_plain_json_is_refused(sharded: Path, content: bytes) -> None:
    (sharded / INDEX).write_bytes(content)
    refused(sharded, f"{INDEX}: ")


def test_an_index_of_absurdly_many_files_is_refused(sharded: Path) -> None:
    (sharded / INDEX).write_text(
        json.dumps({"weight_map": {f"t{n}": f"s{n}.safetensors" for n in range(2000)}})
    )
    refused(sharded, "names 2000 files; at most 1024")


OUTSIDE = [
    "../outside.safetensors", "/etc/passwd", "..", ".", "", "a/../../outside.safetensors", "./../outside.safetensors",
    "..\\outside.safetensors", "C:outside.safetensors", "a\0b", "x" * 2000, "~/outside.safetensors", "\x1b[2J",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE, ids=range(len(OUTSIDE)))
def test_an_index_that_names_a_file_elsewhere_is_refused(sharded: Path, name: str) -> None:
    shutil.copy(sharded / SHARDS[0], sharded.parent / "outside.safetensors")
    found = {tensor: name if file == SHARDS[0] else file for tensor, file in weight_map(sharded).items()}
    (sharded / INDEX).write_text(json.dumps({"weight_map": found}))
    (sharded / SHARDS[0]).unlink()
    refused(sharded, "not one inside its directory|is missing in|is a directory")


# Links


def test_a_link_out_of_the_directory_is_refused(model: Path) -> None:
    for name in ["model.safetensors", *SIDE_FILES]:
        outside = model.parent / "outside"
        os.rename(model / name, outside)
        (model / name).symlink_to(outside)
        refused(model, f"names the file '{name}', a link to .*outside outside its directory")
        (model / name).unlink()
        os.rename(outside, model / name)
    open_everything(model)


def test_links_inside_the_directory_and_to_the_contents_of_the_hubs_cache_are_followed(model: Path) -> None:
    os.rename(model / "model.safetensors", model / "weights")
    (model / "model.safetensors").symlink_to("weights")
    open_everything(model)
    snapshot, blobs = model.parent / "cache" / "snapshots" / "0123", model.parent / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ["model.safetensors", *SIDE_FILES]:
        shutil.copy(model / name, blobs / name.replace(".", ""))
        (snapshot / name).symlink_to(Path("..", "..", "blobs", name.replace(".", "")))
    open_everything(snapshot)
    os.rename(blobs / "configjson", blobs.parent / "configjson")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(Path("..", "..", "configjson"))
    refused(snapshot, "outside its directory")


def test_links_that_lead_nowhere_or_in_a_circle_are_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("model.safetensors")
    refused(model, r"'model\.safetensors', which is missing")
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("nowhere")
    refused(model, r"'model\.safetensors', which is missing")


# What is no file


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_directory(path: Path) -> None:
    path.mkdir()


def as_empty(path: Path) -> None:
    path.touch()


def as_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


@pytest.mark.parametrize("put", [as_pipe, as_directory, as_empty, as_socket])
@pytest.mark.parametrize("name", ["model.safetensors", *SIDE_FILES])
def test_what_is_no_regular_file_is_refused_without_waiting(
    model: Path, name: str, put: Callable[[Path], None]
) -> None:
    (model / name).unlink()
    put(model / name)
    refused(model, f"{name}: is (a named pipe|a directory|empty|a socket)")


@pytest.mark.parametrize("name", ["model.safetensors", *SIDE_FILES])
def test_a_device_is_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    (model / name).symlink_to("/dev/zero")
    refused(model, "is a device|a link to /dev/zero outside its directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_must_not_be_read_is_refused(model: Path) -> None:
    (model / "model.safetensors").chmod(0)
    refused(model, "Permission denied")


# Folders


def test_a_folder_without_a_model_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "config.json")
    (tmp_path / "none" / "README.md").write_text("# nothing")
    refused(tmp_path / "none", "config.json")


def test_weights_without_config_and_config_without_weights_are_refused(model: Path) -> None:
    os.rename(model / "config.json", model.parent / "config.json")
    refused(model, "config.json")
    os.rename(model.parent / "config.json", model / "config.json")
    os.rename(model / "model.safetensors", model / "other.safetensors")
    refused(model, f"holds neither model.safetensors nor {INDEX}; it holds 'other.safetensors'")
    os.rename(model / "other.safetensors", model / "adapter_model.safetensors")
    refused(model, r"holds an adapter \(LoRA\) and no model: merge it")


def test_a_folder_of_several_graphs_or_gguf_files_asks_for_one_by_name(tmp_path: Path) -> None:
    for ending in ("onnx", "gguf"):
        folder = tmp_path / ending
        folder.mkdir()
        for name in ("a", "b"):
            (folder / f"{name}.{ending}").write_bytes(b"x")
        refused(folder, f"holds 2 models, name one of them: a.{ending}, b.{ending}$")
        for name in ("c", "d", "e"):
            (folder / f"{name}.{ending}").write_bytes(b"x")
        refused(folder, rf"holds 5 models, name one of them: a.{ending}, .* d.{ending}, \.\.\.$")


def test_a_safetensors_file_alone_says_to_name_its_directory(model: Path) -> None:
    refused(model / "model.safetensors", r"holds weights only; name the directory .*\(.*/model\)")


def test_a_folder_that_is_a_link_is_opened(model: Path) -> None:
    (model.parent / "link").symlink_to(model)
    open_everything(model.parent / "link")


def test_a_folder_with_an_unprintable_name_is_named_in_one_line(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "a\nb\x1b[2J")
    open_everything(path)
    (path / "config.json").unlink()
    refused(path, r"a\\nb\\x1b\[2J", names="config.json")
