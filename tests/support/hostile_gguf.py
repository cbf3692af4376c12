"""Malformed GGUF files: the one clear error that opening each must raise, at once and without a memory spike."""

from __future__ import annotations

import re
import time
import tracemalloc
from pathlib import Path

import pytest

from llorch.errors import GGUFError
from llorch.formats.gguf.file import GGUFFile
from tests.support.mutants import overwrite

MAX_SECONDS = 1.0
"""Of CPU time, which a busy machine does not stretch; a test that hangs meets the time limit of the run."""
MAX_BYTES = 4 << 20
"""Far above what a small header needs, far below every count that the files here claim."""

ENORMOUS = [2**31 - 1, 2**31, 2**32, 2**61, 2**63 - 8, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 8, 2**64 - 1]


def refused(path: Path) -> str:
    """Message of the error that opening `path` raises; fails when that takes long or much memory."""
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(GGUFError) as caught:
            _ = GGUFFile(path).tensors
        elapsed = time.thread_time() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert path.name in message
    assert message.isprintable(), message
    assert len(message) < 500 + len(str(path))
    assert elapsed < MAX_SECONDS
    assert peak < MAX_BYTES
    return message


def check(tmp_path: Path, content: bytes, pattern: str) -> None:
    path = tmp_path / "hostile.gguf"
    overwrite(path, content)
    message = refused(path)
    assert re.search(pattern, message), message
