"""The index of a sharded model is checked against the headers of its shards."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llorch.errors import SafetensorsError
from llorch.formats.safetensors import shards
from llorch.formats.safetensors.shards import INDEX, WHOLE, open_safetensors
from tests.support.hf_directories import write_weights
from tests.support.safetensors_writer import write_safetensors

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
ONE = np.ones(1, np.float32)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_weights(tmp_path, dict.fromkeys("abcd", ("F32", ONE)), shards=2)
    return tmp_path


def change_index(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((directory / INDEX).read_text())
    change(index)
    (directory / INDEX).write_text(json.dumps(index))


def refused(directory: Path) -> str:
    with pytest.raises(SafetensorsError) as caught:
        open_safetensors(directory)
    return str(caught.value)


def test_shards_come_in_the_order_of_their_names(sharded: Path) -> None:
    found = open_safetensors(sharded)
    assert [file.path.name for file in found] == [FIRST, SECOND]
    assert [list(file.infos) for file in found] == [["a", "b"], ["c", "d"]]


def test_one_file_needs_no_index(tmp_path: Path) -> None:
    write_weights(tmp_path, {"a": ("F32", ONE)})
    write_safetensors(tmp_path / "consolidated.safetensors", {"tok_embeddings": ("F32", ONE)})
    assert [file.path.name for file in open_safetensors(tmp_path)] == [WHOLE]


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    assert f"names the file '{SECOND}', which is missing" in refused(sharded)


def test_a_missing_index_is_named(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert f"holds shards of a model, but no {INDEX}" in refused(sharded)


@pytest.mark.parametrize("name", ["model-00003-of-00003.safetensors", WHOLE])
def test_a_shard_that_the_index_does_not_name_is_refused(sharded: Path, name: str) -> None:
    write_safetensors(sharded / name, {"e": ("F32", ONE)})
    assert f"does not name '{name}'" in refused(sharded)


def test_a_tensor_that_no_shard_has_is_named(sharded: Path) -> None:
    change_index(sharded, lambda index: index["weight_map"].update(e=FIRST))
    assert f"says that '{FIRST}' holds tensor 'e', but no shard has it" in refused(sharded)


def test_a_tensor_in_another_shard_is_named(sharded: Path) -> None:
    change_index(sharded, lambda index: index["weight_map"].update(a=SECOND))
    assert f"says that '{SECOND}' holds tensor 'a', but it lies in '{FIRST}'" in refused(sharded)


def test_a_tensor_that_the_index_does_not_name_is_refused(sharded: Path) -> None:
    change_index(sharded, lambda index: index["weight_map"].pop("d"))
    message = refused(sharded)
    assert f"{sharded / SECOND}: holds tensor 'd'" in message
    assert "does not name it" in message


def test_a_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    write_safetensors(sharded / SECOND, dict.fromkeys("acd", ("F32", ONE)))
    assert f"holds tensor 'a', but {sharded / INDEX} says that it lies in '{FIRST}'" in refused(sharded)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a\\b", "", "a\0b", 3, None, ["x"]])
def test_an_index_leads_to_no_file_outside_the_directory(sharded: Path, name: Any) -> None:
    change_index(sharded, lambda index: index["weight_map"].update(a=name))
    assert "not one inside its directory" in (message := refused(sharded)) or "weight_map" in message


@pytest.mark.parametrize("weight_map", [None, [], {}, "x"])
def test_an_index_without_tensors_is_refused(sharded: Path, weight_map: Any) -> None:
    change_index(sharded, lambda index: index.update(weight_map=weight_map))
    assert "weight_map" in refused(sharded)


def test_the_number_of_shards_is_bounded(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARDS", 1)
    assert "names 2 files; at most 1" in refused(sharded)


@pytest.mark.parametrize("size", [17, "16", 16.5])
def test_a_total_size_that_is_wrong_is_only_warned_about(
    sharded: Path, size: Any, caplog: pytest.LogCaptureFixture
) -> None:
    change_index(sharded, lambda index: index["metadata"].update(total_size=size))
    with caplog.at_level(logging.WARNING):
        assert len(open_safetensors(sharded)) == 2
    assert "but the tensors have 16 bytes" in caplog.text


def test_a_right_total_size_is_not_mentioned(sharded: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_safetensors(sharded)
    change_index(sharded, lambda index: index.pop("metadata"))
    open_safetensors(sharded)
    assert not caplog.text


def test_an_adapter_is_told_from_a_model(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "adapter_model.safetensors", {"a": ("F32", ONE)})
    assert "merge it into its model first" in refused(tmp_path)


def test_a_directory_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "other.safetensors", {"a": ("F32", ONE)})
    assert f"holds neither {WHOLE} nor {INDEX}; it holds 'other.safetensors'" in refused(tmp_path)
