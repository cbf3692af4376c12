"""Files of KV blocks: what was written is read, what is damaged or foreign is absent, and the folder stays small."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llorch.engine.block_files import BlockFiles

OURS, OTHERS = b"i" * 32, b"j" * 32
BLOCK = bytes(range(200))
FILE_BYTES = 8 + 3 * 32 + len(BLOCK)


def key(number: int) -> bytes:
    return bytes([number]) * 32


def open_files(
    root: Path, identity: bytes = OURS, max_files: int = 100, block_bytes: int = len(BLOCK)
) -> BlockFiles:
    return BlockFiles(root, identity, block_bytes, max_files * FILE_BYTES)


def file_of(root: Path, number: int) -> Path:
    (path,) = root.glob(f"*/{key(number).hex()}.kv")
    return path


def test_a_block_is_found_by_a_later_process(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    assert (files.holds(key(1)), files.read(key(1))) == (False, None)
    files.write(key(1), BLOCK)
    for again in (files, open_files(tmp_path)):
        assert again.holds(key(1))
        assert again.read(key(1)) == BLOCK
        assert again.n_bytes == FILE_BYTES
    assert [path.name for path in file_of(tmp_path, 1).parent.iterdir()] == [key(1).hex() + ".kv"]
    assert file_of(tmp_path, 1).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: b"",
        lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"X" + content[1:],
    ],
)
def test_a_damaged_file_is_absent_and_can_be_written_again(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    files = open_files(tmp_path)
    files.write(key(1), BLOCK)
    path = file_of(tmp_path, 1)
    path.write_bytes(damage(path.read_bytes()))
    files = open_files(tmp_path)
    assert files.read(key(1)) is None
    assert not files.holds(key(1))
    files.write(key(1), BLOCK)
    assert files.read(key(1)) == BLOCK
    assert files.n_bytes == FILE_BYTES


def test_a_file_under_the_name_of_another_is_absent(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(key(1), BLOCK)
    path = file_of(tmp_path, 1)
    path.rename(path.with_name(key(2).hex() + ".kv"))
    assert open_files(tmp_path).read(key(2)) is None


def test_a_file_of_another_model_is_absent_even_in_the_wrong_folder(tmp_path: Path) -> None:
    files, others = open_files(tmp_path), open_files(tmp_path, OTHERS)
    others.write(key(1), BLOCK)
    assert not open_files(tmp_path).holds(key(1))
    files.write(key(2), BLOCK)
    path = file_of(tmp_path, 1)
    path.rename(file_of(tmp_path, 2).with_name(path.name))
    files = open_files(tmp_path)
    assert files.holds(key(1))
    assert files.read(key(1)) is None


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path), lambda path: None])
def test_what_is_no_file_is_absent_and_nobody_waits_for_it(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    files = open_files(tmp_path)
    files.write(key(1), BLOCK)
    path = file_of(tmp_path, 1)
    path.unlink()
    make(path)
    assert files.read(key(1)) is None


def test_the_files_used_longest_ago_go_first_those_of_other_models_too(tmp_path: Path) -> None:
    others = open_files(tmp_path, OTHERS)
    others.write(key(9), BLOCK)
    os.utime(file_of(tmp_path, 9), (1000, 1000))
    files = open_files(tmp_path, max_files=3)
    for number in (1, 2):
        files.write(key(number), BLOCK)
    files.note_use([key(1)])
    files.write(key(3), BLOCK)
    assert not list(tmp_path.glob(f"*/{key(9).hex()}.kv"))
    files.write(key(4), BLOCK)
    assert [files.holds(key(number)) for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert files.n_bytes == sum(path.stat().st_size for path in tmp_path.glob("*/*")) == 3 * FILE_BYTES


def test_what_was_used_last_is_known_after_a_restart(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    for number in (1, 2, 3):
        files.write(key(number), BLOCK)
        os.utime(file_of(tmp_path, number), (number, number))
    files.note_use([key(1)])
    files = open_files(tmp_path, max_files=2)
    files.write(key(4), BLOCK)
    assert [files.holds(key(number)) for number in (1, 2, 3, 4)] == [True, False, False, True]


def test_dropped_files_are_gone(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(key(1), BLOCK)
    files.drop([key(1), key(2)])
    assert (files.holds(key(1)), files.n_bytes) == (False, 0)
    assert not list(tmp_path.glob("*/*"))


def test_what_cannot_be_removed_hides_no_other_file(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    for i in range(20):
        files.write(key(i), BLOCK)
        odd = file_of(tmp_path, 0).parent / f"unfinished-{i}"
        odd.mkdir()
        os.utime(odd, (0, 0))
    again = open_files(tmp_path)
    assert again.n_bytes == 20 * FILE_BYTES
    assert all(again.holds(key(i)) for i in range(20))


def test_only_our_own_files_count_and_unfinished_ones_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / OURS.hex()[:32]
    folder.mkdir()
    (folder / "notes.txt").write_bytes(bytes(10**6))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / (key(1).hex() + ".kv")).write_bytes(bytes(10**6))
    old, new = folder / "unfinished-a", folder / "unfinished-b"
    for path, age_s in ((old, 10**5), (new, 0)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    files = open_files(tmp_path, max_files=1)
    files.write(key(1), BLOCK)
    assert files.n_bytes == FILE_BYTES
    assert (old.exists(), new.exists()) == (False, True)
    assert (folder / "notes.txt").exists()
