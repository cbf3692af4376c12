"""The commented `config.toml` at the root holds every setting with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from llorch.settings import Settings, load_settings

CONFIG = Path(__file__).resolve().parents[2] / "config.toml"


def test_config_file_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LLORCH_{name.upper()}", raising=False)
    assert load_settings(CONFIG) == Settings()


def test_config_file_names_every_setting() -> None:
    text = CONFIG.read_text()
    without_default = set(re.findall(r"^# (\w+) = ", text, re.MULTILINE))
    assert set(tomllib.loads(text)) | without_default == set(Settings.model_fields)
    assert all(Settings.model_fields[name].default is None for name in without_default)
