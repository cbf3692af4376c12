"""Split models open through their first part, and a set that does not fit together says why."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from tests.support import gguf_bytes as raw


def part_bytes(number: int, count: int, names: list[str], n_tensors: int, *extra: bytes) -> bytes:
    keys = [
        raw.pair("split.no", raw.UINT16, number),
        raw.pair("split.count", raw.UINT16, count),
        raw.pair("split.tensors.count", raw.INT32, n_tensors),
    ]
    infos = [raw.info(name, [8], offset=32 * i) for i, name in enumerate(names)]
    data = b"".join(np.full(8, float(ord(name[0])), np.float32).tobytes() for name in names)
    return raw.GGUFBytes(pairs=[*extra, *keys], infos=infos, data=data).build()


def part_path(directory: Path, number: int, count: int, stem: str = "model") -> Path:
    return directory / f"{stem}-{number:05}-of-{count:05}.gguf"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three parts; the first holds the metadata and no tensor, as `gguf-split` may write it."""
    part_path(tmp_path, 1, 3).write_bytes(part_bytes(0, 3, [], 3, raw.ARCHITECTURE))
    part_path(tmp_path, 2, 3).write_bytes(part_bytes(1, 3, ["a", "b"], 3))
    part_path(tmp_path, 3, 3).write_bytes(part_bytes(2, 3, ["c"], 3))
    return part_path(tmp_path, 1, 3)


def test_the_first_part_opens_all(model: Path) -> None:
    file = GGUFFile(model)
    assert file.metadata["general.architecture"] == "llama"
    assert [path.name[6:11] for path in file.part_paths] == ["00001", "00002", "00003"]
    assert file.n_bytes == sum(path.stat().st_size for path in file.part_paths)
    assert {name: info.part for name, info in file.tensor_infos.items()} == {"a": 1, "b": 1, "c": 2}
    for name, tensor in file.tensors.items():
        assert tensor.data.view(np.float32).tolist() == [ord(name)] * 8
    file.close()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_change_of_any_part_is_noticed(model: Path, number: int) -> None:
    path = part_path(model.parent, number, 3)
    with GGUFFile(model) as file:
        assert file.changed() is None
        with path.open("ab") as part:
            part.write(b"more")
        n_bytes = path.stat().st_size
        assert file.changed() == f"{path.name} had {n_bytes - 4} bytes and now has {n_bytes}"
    assert file.changed() is None


def test_the_hash_is_that_of_all_parts_one_after_the_other(model: Path) -> None:
    with GGUFFile(model) as file:
        whole = b"".join(path.read_bytes() for path in file.part_paths)
        assert file.hashed() == (len(whole), hashlib.sha256(whole).hexdigest())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_parts_that_were_written_to_are_not_hashed(model: Path, number: int) -> None:
    with GGUFFile(model) as file:
        os.utime(part_path(model.parent, number, 3), ns=(0, 1))
        with pytest.raises(GGUFError, match="was changed since it was opened"):
            file.hashed()


def test_a_model_that_is_closed_is_not_hashed(model: Path) -> None:
    file = GGUFFile(model)
    file.close()
    with pytest.raises(GGUFError, match="is closed"):
        file.hashed()


def test_a_later_part_names_the_first(model: Path) -> None:
    with pytest.raises(GGUFError, match=r"is part 2 of 3 .* model-00001-of-00003\.gguf"):
        GGUFFile(model.with_name("model-00002-of-00003.gguf"))


def test_a_missing_part_is_named(model: Path) -> None:
    part_path(model.parent, 3, 3).unlink()
    with pytest.raises(
        GGUFError, match=r"model-00003-of-00003\.gguf: cannot be opened: No such file.*part 3 of 3"
    ):
        GGUFFile(model)


def test_a_damaged_part_is_named(model: Path) -> None:
    path = part_path(model.parent, 3, 3)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GGUFError, match=r"00003-of-00003\.gguf: tensor 'c'.*part 3 of 3"):
        GGUFFile(model)


def test_parts_in_the_wrong_place_are_refused(model: Path) -> None:
    part_path(model.parent, 2, 3).write_bytes(part_bytes(2, 3, ["c"], 3))
    with pytest.raises(
        GGUFError, match=r"00002-of-00003\.gguf: metadata key 'split.no' is 2; 1 was expected"
    ):
        GGUFFile(model)


def test_a_part_of_another_model_is_refused(model: Path) -> None:
    part_path(model.parent, 3, 3).write_bytes(part_bytes(2, 4, ["c"], 3))
    with pytest.raises(GGUFError, match=r"'split.count' is 4; 3 was expected"):
        GGUFFile(model)
    part_path(model.parent, 3, 3).write_bytes(raw.small_file())
    with pytest.raises(GGUFError, match=r"'split.no' is missing"):
        GGUFFile(model)


def test_a_tensor_in_two_parts_is_refused(model: Path) -> None:
    part_path(model.parent, 3, 3).write_bytes(part_bytes(2, 3, ["a"], 3))
    with pytest.raises(GGUFError, match=r"00003-of-00003.gguf: tensor 'a' is also in .*00002-of-00003\.gguf"):
        GGUFFile(model)


def test_the_number_of_tensors_must_be_the_announced_one(model: Path) -> None:
    part_path(model.parent, 1, 3).write_bytes(part_bytes(0, 3, [], 4))
    with pytest.raises(GGUFError, match=r"'split.tensors.count' is 4, but the parts hold 3"):
        GGUFFile(model)


def test_a_renamed_part_says_what_its_name_must_be(tmp_path: Path) -> None:
    path = tmp_path / "renamed.gguf"
    path.write_bytes(part_bytes(0, 3, [], 3))
    with pytest.raises(GGUFError, match=r"one of 3 parts.*-00001-of-00003\.gguf"):
        GGUFFile(path)
    path = part_path(tmp_path, 2, 3)
    path.write_bytes(part_bytes(0, 3, [], 3))
    with pytest.raises(GGUFError, match=r"first part by its metadata, but part 2 by its name"):
        GGUFFile(path)


@pytest.mark.parametrize("count", [0, 1])
def test_a_model_split_into_one_part_is_an_ordinary_file(tmp_path: Path, count: int) -> None:
    path = tmp_path / "whole.gguf"
    path.write_bytes(part_bytes(0, count, ["a"], 1))
    assert list(GGUFFile(path).tensors) == ["a"]


@pytest.mark.parametrize(
    "pair",
    [
        raw.pair("split.count", raw.STRING, "3"),
        raw.pair("split.count", raw.FLOAT32, 3.0),
        raw.pair("split.count", raw.INT32, -3),
        raw.pair("split.count", raw.BOOL, 1),
        raw.array("split.count", raw.UINT16, [3]),
    ],
)
def test_a_part_count_that_is_no_count_is_refused(tmp_path: Path, pair: bytes) -> None:
    path = part_path(tmp_path, 1, 3)
    path.write_bytes(raw.small_file(pair))
    with pytest.raises(GGUFError, match=r"'split.count' must be a whole number"):
        GGUFFile(path)


def test_an_absurd_part_count_stops_at_the_first_missing_part(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-65535.gguf"
    path.write_bytes(part_bytes(0, 65535, [], 3))
    with pytest.raises(GGUFError, match=r"00002-of-65535\.gguf: cannot be opened"):
        GGUFFile(path)
