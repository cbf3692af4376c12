"""Malformed GGUF files: the one clear error that opening each must raise."""

from __future__ import annotations

import re
from pathlib import Path

from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from tests.support.hostile_files import MAX_SECONDS, error_of
from tests.support.mutants import overwrite

__all__ = ["ENORMOUS", "MAX_SECONDS", "check", "refused"]

ENORMOUS = [2**31 - 1, 2**31, 2**32, 2**61, 2**63 - 8, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 8, 2**64 - 1]


def refused(path: Path) -> str:
    """Message of the error that opening `path` raises; fails when that takes long or much memory."""
    return error_of(lambda: GGUFFile(path).tensors, GGUFError, names=path.name)


def check(tmp_path: Path, content: bytes, pattern: str) -> None:
    path = tmp_path / "hostile.gguf"
    overwrite(path, content)
    message = refused(path)
    assert re.search(pattern, message), message
