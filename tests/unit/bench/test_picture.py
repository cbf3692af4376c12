"""The file that a picture is written to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from llorch.bench.picture import write
from llorch.errors import InputError


def test_a_full_disk_leaves_the_older_picture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "speeds.png"
    write(b"older", path)

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"speeds\.png: 6 bytes cannot be written there: No space left"):
        write(b"latest", path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"older"
