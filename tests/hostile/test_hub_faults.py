"""A hub that lies: names that lead elsewhere, other bytes than announced, hashes that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.errors import LlorchError
from tests.support.hub_server import Hub
from tests.support.hub_user import MODEL, hub, left, no_pauses, pull

__all__ = ["hub", "no_pauses"]

FILE = "b-Q8_0.gguf"


def refusal(name: str = "a/b") -> str:
    """The one line of a pull that fails."""
    with pytest.raises(LlorchError) as caught:
        pull(name)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["../../x.gguf", "/tmp/x.gguf", "a\\..\\x.gguf", ".partial/x.gguf", "x\x1b[2J.gguf"]
)
def test_a_file_name_that_leads_elsewhere_is_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.files["a/b"][name] = b"evil"
    assert "is no file name of a repository" in refusal()
    assert hub.downloads == []
    assert left(tmp_path) == []


@pytest.mark.parametrize("digest", ["../../../x", "", "0" * 63, "Z" * 64])
def test_a_hash_that_is_none_is_refused(hub: Hub, digest: str) -> None:
    hub.hashes[FILE] = digest
    assert "no hash" in refusal()
    assert hub.downloads == []


def test_a_file_of_another_hash_is_refused_and_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.hashes[FILE] = "0" * 64
    assert f"expected {'0' * 64}" in refusal()
    assert left(tmp_path) == []


@pytest.mark.parametrize("n_bytes", [len(MODEL) + 1, 1 << 30])
def test_too_few_bytes_are_refused(hub: Hub, n_bytes: int, no_pauses: None) -> None:
    hub.sizes[FILE] = n_bytes
    assert "could not be fetched" in refusal()


def test_too_many_bytes_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.sizes[FILE] = 1000
    assert "more than the 1,000 bytes" in refusal()
    assert all(path.stat().st_size <= 1000 for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("n_bytes", [1 << 60, -1])
def test_a_size_that_cannot_be_is_refused_before_anything_is_fetched(hub: Hub, n_bytes: int) -> None:
    hub.sizes[FILE] = n_bytes
    assert refusal()
    assert hub.downloads == []


def test_a_connection_that_breaks_at_once_each_time_is_given_up(hub: Hub, no_pauses: None) -> None:
    hub.cut_after = 0
    assert "could not be fetched" in refusal()
    assert len(hub.ranges) < 10
