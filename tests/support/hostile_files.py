"""Malformed files: the one clear error that opening each must raise, at once and without a memory spike."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from llorch.errors import InputError

MAX_SECONDS = 1.0
"""Of CPU time, which a busy machine does not stretch; a test that hangs meets the time limit of the run."""
MAX_BYTES = 4 << 20
"""Far above what a small header needs, far below every count that hostile files claim."""
MAX_MESSAGE = 700


def error_of(
    action: Callable[[], object], error: type[InputError], *, names: str, max_bytes: int = MAX_BYTES
) -> str:
    """Message of the error that `action` raises; fails when that takes long or much memory.

    Args:
        action: opens the file.
        error: that must be raised.
        names: what the message must name.
        max_bytes: most memory at a time.
    """
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(error) as caught:
            action()
        elapsed = time.thread_time() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert names in message
    assert message.isprintable(), message
    assert len(message) < MAX_MESSAGE, message
    assert elapsed < MAX_SECONDS
    assert peak < max_bytes
    return message
