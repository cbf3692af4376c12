"""A file appears whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llorch.convert.written_beside import check_place, written_beside
from llorch.errors import InputError
from tests.conftest import REPOSITORY


def fine(path: Path) -> None:
    """A check that finds nothing wrong."""


def test_the_file_appears_after_its_check(tmp_path: Path) -> None:
    path = tmp_path / "out"
    checked = []

    def check(beside: Path) -> None:
        assert beside.parent == tmp_path
        assert not path.exists()
        checked.append(beside.read_bytes())

    with written_beside(path, 6, check) as file:
        file.write(3, b"def")
        file.write(0, b"abc")
    assert checked == [b"abcdef"]
    assert path.read_bytes() == b"abcdef"
    assert os.listdir(tmp_path) == ["out"]


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with written_beside(tmp_path / "out", 1, fine):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["body", "check"])
def test_any_error_leaves_nothing_and_the_old_file(
    tmp_path: Path, error: type[BaseException], where: str
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def check(beside: Path) -> None:
        if where == "check":
            raise error

    def attempt() -> None:
        with written_beside(path, 3, check) as file:
            file.write(0, b"new")
            if where == "body":
                raise error

    with pytest.raises(error):
        attempt()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_write_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "out"
    said = r"out: 3 bytes cannot be written there: No such file"
    with pytest.raises(InputError, match=said), written_beside(path, 3, fine):
        pass


def test_places_that_are_no_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in [
        (tmp_path, "is no regular file"),
        (tmp_path / "pipe", "is no regular file"),
        (Path("/dev/null"), "is no regular file"),
        (tmp_path / "missing" / "out", "there is no folder"),
        (tmp_path / ("x" * 300), "is not a usable path"),
        (tmp_path / "a\0b", "is not a usable path"),
    ]:
        with pytest.raises(InputError, match=said):
            check_place(path, ())
    check_place(tmp_path / "new", ())


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_that_is_read_is_not_written_to_by_any_name(tmp_path: Path, link: object) -> None:
    source, other = tmp_path / "in", tmp_path / "other"
    source.write_bytes(b"x")
    link(source, other)  # type: ignore[operator]
    for path in (source, other):
        with pytest.raises(InputError, match="is the file that is read"):
            check_place(path, (Path(__file__), source))


DIES = """
import os, signal, sys
from pathlib import Path
if sys.argv[2] == "named":
    del os.O_TMPFILE
from llorch.convert.written_beside import written_beside
with written_beside(Path(sys.argv[1]) / "out", 9, lambda path: None) as file:
    file.write(0, b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def dies_while_it_writes(folder: Path, kind: str) -> list[str]:
    """What a process leaves in `folder` that is killed while it writes there."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-c", DIES, str(folder), kind]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    return os.listdir(folder)


def test_a_process_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path, os.O_RDWR | os.O_TMPFILE))
    except (AttributeError, OSError) as error:
        pytest.skip(f"no files without names here: {error}")
    assert dies_while_it_writes(tmp_path / "folder", "without a name") == []


def test_what_a_killed_process_has_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """Where files always have names."""
    folder = tmp_path / "folder"
    assert len(dies_while_it_writes(folder, "named")) == 1
    assert len(dies_while_it_writes(folder, "named")) == 1
    with written_beside(folder / "out", 3, fine) as file:
        file.write(0, b"new")
    assert os.listdir(folder) == ["out"]


@pytest.mark.parametrize("kind", ["named", "without a name"])
def test_two_may_write_to_one_place_at_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "out"
    with written_beside(path, 1, fine) as first:
        with written_beside(path, 1, fine) as second:
            first.write(0, b"1")
            second.write(0, b"2")
        assert path.read_bytes() == b"2"
    assert path.read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["out"]


def test_only_abandoned_files_are_removed(tmp_path: Path) -> None:
    """Not what bears such a name and is something else."""
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / ".llorch-folder.unfinished").mkdir()
    (tmp_path / ".llorch-link.unfinished").symlink_to(other)
    os.mkfifo(tmp_path / ".llorch-pipe.unfinished")
    (tmp_path / ".llorch-file.unfinished").touch()
    with written_beside(tmp_path / "out", 1, fine):
        pass
    names = [
        ".llorch-folder.unfinished",
        ".llorch-link.unfinished",
        ".llorch-pipe.unfinished",
        "other",
        "out",
    ]
    assert sorted(os.listdir(tmp_path)) == names
    assert other.read_bytes() == b"kept"
