"""A user of the model hub on this machine: fixtures and calls of the tests that pull from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llorch.errors import InputError
from llorch.model_files import resolve_model_path
from llorch.pulled.hub import pull_from_hub
from llorch.pulled.names import HubName
from tests.support.hub_server import Hub, hub_server

MODEL = os.urandom(300_000)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a repository `a/b`, which is where this process asks."""
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    with hub_server() as hub:
        hub.files["a/b"] = {"README.md": b"# b", "b-Q8_0.gguf": MODEL}
        monkeypatch.setenv("LLORCH_DATA_DIR", str(tmp_path / "data"))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is tried again at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def pull(name: str) -> Path:
    return pull_from_hub(HubName.parse(name), lambda *step: None).path


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data").rglob("*") if path.is_file())


def pull_until(name: str, n_bytes: int) -> None:
    """Fetch a model of the hub until Ctrl-C, which comes once so many bytes of a file have."""

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("downloading") and done >= n_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull_from_hub(HubName.parse(name), interrupt)
    with pytest.raises(InputError, match="there is no model"):
        resolve_model_path(name)
