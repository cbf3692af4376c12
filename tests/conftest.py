"""Fixtures shared by all tests: where the real test models are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# Assertions in shared modules show their values, as those in test modules do.
pytest.register_assert_rewrite("tests.support")

# Time limits per example would only measure how busy the machine is.
hypothesis.settings.register_profile("llorch", deadline=None)
hypothesis.settings.load_profile("llorch")

REPOSITORY = Path(__file__).resolve().parent.parent


def test_models_dir() -> Path:
    """Directory of the real test models (`LLORCH_TEST_MODELS`, default `../shared/models`)."""
    return Path(os.environ.get("LLORCH_TEST_MODELS", REPOSITORY.parent / "shared" / "models"))


test_models_dir.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def models_dir() -> Path:
    directory = test_models_dir()
    if not directory.is_dir():
        pytest.skip(f"test models are not at {directory} (set LLORCH_TEST_MODELS)")
    return directory


@pytest.fixture(scope="session")
def model_path(models_dir: Path) -> Callable[[str], Path]:
    def path(name: str) -> Path:
        found = models_dir / name
        if not found.exists():
            pytest.skip(f"{name} is not among the test models in {models_dir}")
        return found

    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model of random weights, the smallest there is."""
    from tests.support.tiny_models import write_tiny_llama  # not for runs that need no model

    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_llama(path)
    return path
