"""Servers and models that several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer
from tests.support.tiny_models import write_tiny_llama


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and a context so long that a generation can be interrupted at leisure."""
    path = tmp_path_factory.mktemp("models") / "long.gguf"
    write_tiny_llama(path, n_layer=2, n_ctx_train=65536)
    return path


@pytest.fixture(scope="session")
def server(long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Two sequences at a time, two may wait, prompts are read 64 tokens at a step; everything is logged."""
    log = tmp_path_factory.mktemp("server") / "log"
    flags = ("-np", "2", "-b", "64", "--max-waiting", "2", "--log-level", "debug")
    live = LiveServer(long_model, log, *flags)
    live.wait_until_ready()
    yield live
    assert live.stop() == 0
