"""The commented `config.toml` at the root and the table of request fields say what the table of fields says."""

from __future__ import annotations

import re
import tomllib

import pytest

from llorch.settings import Settings, load_settings
from tests.conftest import REPOSITORY
from tools.setup.write_field_docs import config_toml, with_table

CONFIG = REPOSITORY / "config.toml"
HINT = "run: python -m tools.setup.write_field_docs"


def test_config_file_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LLORCH_{name.upper()}", raising=False)
    assert load_settings(CONFIG) == Settings()


def test_config_file_names_every_setting() -> None:
    text = CONFIG.read_text()
    without_default = set(re.findall(r"^# (\w+) = ", text, re.MULTILINE))
    assert set(tomllib.loads(text)) | without_default == set(Settings.model_fields)
    assert all(Settings.model_fields[name].default is None for name in without_default)


def test_config_file_says_what_the_table_says() -> None:
    assert CONFIG.read_text() == config_toml(), HINT


def test_the_page_about_generate_says_what_the_table_says() -> None:
    page = (REPOSITORY / "docs" / "generate.md").read_text()
    assert page == with_table(page), HINT
