"""A model file that the tests of this folder only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_models import write_tiny_llama


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, two types of weights, and a vocabulary that is no multiple of a tile."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_llama(path, n_layer=2, n_vocab=301, types={"ffn_down.weight": "F16"})
    return path
