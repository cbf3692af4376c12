"""Vocabularies of directories with one value of their files replaced, or damaged: read, or refused with one line."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from llorch.errors import ModelError
from llorch.text.tokenizer import load_tokenizer
from tests.support.directory_vocabularies import changed, read, small_model
from tests.support.mutants import mutants

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 1 << 31, 1 << 64, 10**400, 1e308, -0.5, "", "x", " ", "▁", "\ud800", "<s>", "a b c",
    "x" * 5000, "\n\x1b[31m",
    [], [[]], [1], ["a"], {}, {"type": "BPE"}, {"id": 0}, {"content": "x"}, [{}], [None] * 1000,
]  # fmt: skip
"""What may stand anywhere in JSON."""

FILES: dict[str, Any] = {
    "tokenizer_json": None,
    "tokenizer_config_json": {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "add_bos_token": True,
        "add_prefix_space": False,
        "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}},
        "chat_template": [{"name": "default", "template": "{{ messages }}"}],
    },
    "special_tokens_map_json": {"pad_token": "</s>"},
    "generation_config_json": {"eos_token_id": [1, 2]},
    "chat_template_json": {},
    "added_tokens_json": {"<x>": 380},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value stands in an object: keys and indices; of long ones the first few."""
    found = [path] if path else []
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    for key, inner in items[:24]:
        found += places(inner, (*path, key))
    return found


def check(directory: Path, files: dict[str, Any]) -> bool:
    """Read the directory and encode; whether that was possible."""
    try:
        keys = read(directory, **files)
        tokenizer = load_tokenizer(keys)
        tokenizer.decode(tokenizer.encode("The <s> theatre\n 12", parse_special=True))
    except ModelError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 1500
        return False
    return True


@pytest.mark.parametrize("n", [30, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("base", ["bytes", "spaces", "model"])
def test_any_value_in_any_place_is_read_or_refused(base: str, n: int, tmp_path: Path) -> None:
    chance = random.Random(base)
    whole: dict[str, Any] = FILES | {"tokenizer_json": changed(base)}
    if base == "model":
        whole["tokenizer_model"] = small_model()
    where = [
        (name, path)
        for name, content in whole.items()
        if isinstance(content, dict)
        for path in places(content)
    ]
    n_read = 0
    for _ in range(n):
        name, path = chance.choice(where)
        files = whole | {name: copy.deepcopy(whole[name])}
        inner = files[name]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = chance.choice(HOSTILE)
        n_read += check(tmp_path, files)
    assert n / 20 < n_read < n


def test_objects_instead_of_whole_files_are_read_or_refused(tmp_path: Path) -> None:
    for name in FILES:
        for value in HOSTILE[::4]:
            check(tmp_path, FILES | {"tokenizer_json": changed("bytes"), name: json.dumps(value)})


def test_a_damaged_sentencepiece_model_is_read_or_refused(tmp_path: Path) -> None:
    original = small_model()
    results = [
        check(tmp_path, {"tokenizer_model": damaged})
        for damaged in mutants(original, 250, seed=13, reach=len(original))
    ]
    assert 10 < sum(results) < 240
