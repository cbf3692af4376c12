"""Typed lines, kept for this user alone and in no file of another kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llorch.cli.dialogue import line_history
from llorch.cli.dialogue.line_history import MAX_LINE_CHARS, MAX_LINES, LineHistory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llorch" / "chat_history"


def test_lines_come_back_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        LineHistory(path).keep("one\ntwo")
        LineHistory(path).keep("\n  \nGrüße")
    finally:
        os.umask(before)
    assert LineHistory(path).lines() == ["one", "two", "Grüße"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    history = LineHistory(path)
    path.touch(0o644)
    history.keep("secret")
    assert path.stat().st_mode & 0o777 == 0o600


def test_only_the_latest_lines_stay(path: Path) -> None:
    history = LineHistory(path)
    history.keep("\n".join(map(str, range(2 * MAX_LINES + 1))))
    latest = [str(i) for i in range(MAX_LINES + 1, 2 * MAX_LINES + 1)]
    assert history.lines() == latest
    assert path.read_text().splitlines() == latest
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_long_lines_and_long_files_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = LineHistory(path)
    history.keep("x" * (MAX_LINE_CHARS + 1))
    assert history.lines() == []
    path.write_bytes(b"\xff broken\n" + b"y" * 100 + b"\nlast\n")
    assert history.lines()[-1] == "last"
    monkeypatch.setattr(line_history, "MAX_BYTES", 6)
    assert history.lines() == ["", "last"]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
def test_nothing_but_a_file_is_read_or_written(kind: str, path: Path, tmp_path: Path) -> None:
    history = LineHistory(path)
    target = tmp_path / "target"
    target.write_text("theirs\n")
    match kind:
        case "link":
            path.symlink_to(target)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero")
    assert history.lines() == []
    history.keep("mine")
    assert target.read_text() == "theirs\n"


def test_without_a_safe_folder_nothing_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    history = LineHistory(folder / "chat_history")
    history.keep("mine")
    assert history.lines() == []
    assert list(folder.iterdir()) == []
