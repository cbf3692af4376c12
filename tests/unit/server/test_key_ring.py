"""Keys are read again as a whole; a file that is no good changes nothing; names are logged, keys are not."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from llorch.errors import SettingsError
from llorch.server.key_ring import KeyRing
from llorch.settings import load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("alice: sesame\nbob: tahini\nhalva\n")
    return path


def ring_of(file: Path) -> KeyRing:
    return KeyRing(load_settings(overrides={"api_key_file": str(file)}))


def test_what_has_changed_is_said_by_name(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = ring_of(file)
    file.write_text("# new\nalice: poppy\ncarol: almond\nhalva\n")
    with caplog.at_level(logging.INFO, logger="llorch"):
        ring.reload()
    assert caplog.messages == [f"3 API keys read from {file}; replaced: alice; added: carol; removed: bob"]
    assert {owner for key, owner in ring.owners.items() if key in (b"poppy", b"almond")} == {"alice", "carol"}
    assert b"sesame" not in ring.owners


def test_a_key_that_goes_to_somebody_else_is_a_change(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = ring_of(file)
    file.write_text("alice: sesame\ncarol: tahini\nhalva\n")
    with caplog.at_level(logging.INFO, logger="llorch"):
        ring.reload()
    assert caplog.messages == [f"3 API keys read from {file}; added: carol; removed: bob"]
    assert ring.owners[b"tahini"] == "carol"


def test_no_change_is_said_too(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = ring_of(file)
    with caplog.at_level(logging.INFO, logger="llorch"):
        ring.reload()
    assert caplog.messages == [f"3 API keys read from {file}; nothing has changed"]


def test_many_changes_are_one_short_line(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = ring_of(file)
    file.write_text("".join(f"user{i}: key{i}\n" for i in range(900)))
    with caplog.at_level(logging.INFO, logger="llorch"):
        ring.reload()
    assert "and 880 more" in caplog.messages[0]
    assert len(caplog.messages[0]) < 500


@pytest.mark.parametrize(
    "content", [b"", b"# nobody\n", b"a: b\nc: b\n", b"\xff\xfe", b"key\t2\n", b"x" * (1 << 19)]
)
def test_a_file_that_is_no_good_changes_nothing(file: Path, content: bytes) -> None:
    ring = ring_of(file)
    before = ring.owners
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        ring.reload()
    assert ring.owners is before
    assert str(file) in str(caught.value)
    file.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        ring.reload()


def test_a_pipe_is_not_waited_for(file: Path) -> None:
    ring = ring_of(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SettingsError, match="is a pipe"):
        ring.reload()
    assert ring.owners
