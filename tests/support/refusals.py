"""Tiny models that must be refused."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.formats.source import open_source
from llorch.model.config import ModelConfig
from llorch.model.weights import Weights
from tests.support.tiny_models import write_tiny_llama

MAX_SECONDS = 1.0
"""Of CPU time, which a busy machine does not stretch; what hangs meets the time limit of the test run."""


def refusal(path: Path, **tiny: Any) -> str:
    """The error about a tiny model with overrides; it must come at once and be one line."""
    write_tiny_llama(path, **tiny)
    started = time.thread_time()
    with closing(open_source(path)) as source, pytest.raises(ModelError) as caught:
        Weights.from_tensors(ModelConfig.from_metadata(source.metadata), source.tensors)
    assert time.thread_time() - started < MAX_SECONDS
    message = str(caught.value)
    assert message.isprintable()
    return message
