"""A safetensors file is mapped: views at any address that outlive it, a hash, and what has happened to it."""

from __future__ import annotations

import gc
import hashlib
from pathlib import Path

import numpy as np
import pytest

from llorch.errors import SafetensorsError
from llorch.formats.safetensors.file import SafetensorsFile
from tests.support.safetensors_writer import Tensors, safetensors_bytes, write_safetensors

VALUES = np.arange(6, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors: Tensors = {"a": ("F32", VALUES.reshape(2, 3)), "none": ("F16", np.empty(0, np.float16))}
    return write_safetensors(tmp_path / "model.safetensors", tensors, metadata={"format": "pt"})


def test_the_bytes_of_a_tensor_are_a_read_only_view_on_the_file(path: Path) -> None:
    file = SafetensorsFile(path)
    raw = file.raw("a")
    assert raw.dtype == np.uint8
    assert not raw.flags.writeable
    assert (raw.view(np.float32) == VALUES).all()
    assert file.raw("none").nbytes == 0
    assert (file.metadata, file.n_bytes) == ({"format": "pt"}, path.stat().st_size)


def test_views_outlive_the_file(path: Path) -> None:
    file = SafetensorsFile(path)
    raw = file.raw("a")
    file.forget_pages()
    file.close()
    file.close()
    del file
    gc.collect()
    assert (raw.view(np.float32) == VALUES).all()


@pytest.mark.parametrize("remainder", [1, 2, 7])
def test_data_may_begin_at_any_address(tmp_path: Path, remainder: int) -> None:
    path = tmp_path / "odd.safetensors"
    text = b'{"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}'
    text += b" " * ((remainder - len(text)) % 8)
    path.write_bytes(safetensors_bytes(text, VALUES.tobytes(), alignment=1))
    raw = SafetensorsFile(path).raw("a")
    assert raw.ctypes.data % 8 == remainder
    assert (raw.view(np.float32) == VALUES).all()


def test_a_change_shows_and_the_hash_is_of_the_whole_file(path: Path) -> None:
    file, digest = SafetensorsFile(path), hashlib.sha256()
    file.hash_into(digest)
    assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()
    assert file.changed() is None
    with path.open("ab") as more:
        more.write(b"more")
    assert "had" in str(file.changed())


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(b"abc")
    with pytest.raises(SafetensorsError, match=r"cut\.safetensors: has 3 bytes"):
        SafetensorsFile(path)
    with pytest.raises(SafetensorsError, match=r"missing\.safetensors: cannot be opened"):
        SafetensorsFile(tmp_path / "missing.safetensors")
