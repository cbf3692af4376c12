"""A mapped file knows whether it is still what was mapped."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.errors import GGUFError
from llorch.formats.mapped_file import MappedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(10_000))
    return path


def cut(path: Path) -> None:
    os.truncate(path, 100)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def write_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(0, 1))  # the clock of a file system may tick too rarely to tell


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut, "model.gguf had 10000 bytes and now has 100"),
        (grow, "model.gguf had 10000 bytes and now has 10004"),
        (write_inside, "model.gguf was written to"),
        (touch, "model.gguf was written to"),
    ],
)
def test_a_file_that_was_changed_in_place_is_told_from_the_one_that_was_mapped(
    path: Path, change: Callable[[Path], None], said: str
) -> None:
    file = MappedFile(path, "a GGUF file", GGUFError)
    assert file.changed() is None
    change(path)
    assert file.changed() == said
    file.close()
    assert file.changed() is None, "who has closed it has no reason to care"


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"another")
    os.replace(other, path)


def move_and_cut_another(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"another")
    os.truncate(path, 1)


def make_unreadable(path: Path) -> None:
    path.chmod(0)


@pytest.mark.parametrize("change", [replace, move_and_cut_another, Path.unlink, make_unreadable])
def test_what_does_not_touch_the_mapped_bytes_is_no_change(
    path: Path, change: Callable[[Path], None]
) -> None:
    file = MappedFile(path, "a GGUF file", GGUFError)
    change(path)
    assert file.changed() is None
    assert bytes(file.bytes[:10]) == bytes(10)
    file.close()


def test_a_file_that_was_renamed_and_then_cut_is_noticed(path: Path) -> None:
    file = MappedFile(path, "a GGUF file", GGUFError)
    path.rename(path.with_suffix(".old"))
    cut(path.with_suffix(".old"))
    assert file.changed() == "model.gguf had 10000 bytes and now has 100"
    file.close()


def descriptors_of(path: Path) -> int:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not list open files")
    return sum(os.path.realpath(link) == str(path) for link in folder.iterdir())


def test_the_file_is_let_go_of_when_it_is_closed_forgotten_or_refused(path: Path) -> None:
    file = MappedFile(path, "a GGUF file", GGUFError)
    assert descriptors_of(path) > 0
    file.close()
    file.close()
    assert descriptors_of(path) == 0
    file = MappedFile(path, "a GGUF file", GGUFError)
    del file
    gc.collect()
    assert descriptors_of(path) == 0
    os.truncate(path, 0)
    with pytest.raises(GGUFError, match="is empty") as caught:
        MappedFile(path, "a GGUF file", GGUFError)
    assert descriptors_of(path) == 0, caught
