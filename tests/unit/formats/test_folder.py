"""Names of files inside a model's directory, and links that lead out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.errors import ModelError
from llorch.formats.folder import file_inside


def found(directory: Path, name: str) -> Path:
    return file_inside(directory, name, "index.json")


def test_a_file_beside_the_one_that_names_it_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.bin", "sub/b.bin"):
        (tmp_path / name).touch()
        assert found(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\0b", "a\\b", "C:x", "x" * 2000])
def test_names_that_lead_out_of_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="not one inside its directory"):
        found(tmp_path, name)


def test_a_missing_file_and_a_circle_of_links_are_missing(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    for name in ("none", "round", "half a surrogate pair \ud800"):
        with pytest.raises(ModelError, match="is missing"):
            found(tmp_path, name)


def test_a_link_that_leads_out_is_refused_but_not_one_into_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0f"
    blobs = tmp_path / "models--a--b" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "abc").touch()
    (tmp_path / "secret").touch()
    (snapshot / "good").symlink_to("../../blobs/abc")
    (snapshot / "bad").symlink_to(tmp_path / "secret")
    assert found(snapshot, "good") == snapshot / "good"
    with pytest.raises(ModelError, match="outside its directory"):
        found(snapshot, "bad")
