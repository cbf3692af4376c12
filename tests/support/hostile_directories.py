"""Malformed Hugging Face directories: a good one with something wrong, and the error that opening it must raise."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import InputError
from llorch.formats.source import open_source
from llorch.open_model import check_source
from tests.support.hf_directories import write_directory
from tests.support.hostile_files import error_of

ABSENT = object()
"""In place of a value: the key is left out."""
MAX_BYTES = 8 << 20
"""Small vocabularies included."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the others are made of."""
    return write_directory(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def model(tmp_path: Path, good: Path) -> Path:
    """A good directory in one file."""
    return shutil.copytree(good, tmp_path / "model")


def open_everything(path: Path) -> None:
    """Open a model as far as before it computes, and read every byte of its weights."""
    with closing(open_source(path)) as source:
        contents = check_source(source, with_tokenizer="tokenizer.ggml.model" in source.metadata)
        assert contents.config.n_layer > 0
        assert all(info.n_bytes >= 0 for info in source.tensor_infos.values())
        for tensor in source.tensors.values():
            tensor.data.sum()


def refused(path: Path, pattern: str, names: str | None = None) -> str:
    """The error about a model, which must be of this pattern.

    Args:
        path: of the model.
        pattern: regular expression.
        names: what the message must name; by default the directory.
    """
    message = error_of(
        lambda: open_everything(path),
        InputError,
        names=path.name if names is None else names,
        max_bytes=MAX_BYTES,
    )
    assert re.search(pattern, message), message
    return message


def edit(path: Path, *keys: str | int, value: Any) -> None:
    """Set or remove (`ABSENT`) a value in a JSON file, given the keys that lead to it."""
    document = json.loads(path.read_bytes())
    place = document
    for key in keys[:-1]:
        place = place[key]
    if value is ABSENT:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(document))
