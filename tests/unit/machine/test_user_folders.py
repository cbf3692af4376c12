"""Folders of the user: a folder that somebody else can write is no place for code or models."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.machine.user_folders import make_own_folder


@pytest.mark.parametrize("which", [".", "kernels", "kernels/key"])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, which: str) -> None:
    """A user who can replace an entry of a cache runs code as the user who loads it."""
    root = tmp_path / "cache"
    path = root / "kernels" / "key"
    path.mkdir(mode=0o700, parents=True)
    assert make_own_folder(path) == ""
    (root / which).chmod(0o777)
    assert "others can write to it" in make_own_folder(path)


def test_a_sticky_parent_such_as_tmp_is_no_danger(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    assert make_own_folder(tmp_path / "tmp" / "mine" / "key") == ""


def test_a_cache_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in make_own_folder(tmp_path / "file" / "key")
