"""What counts as one prompt and what as several, and which of its tokens it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llorch.open_model import open_model
from llorch.server.routes.llama_server.prompts import (
    Prompt,
    prompt_faults,
    prompt_ids,
    prompts_of,
    shown_text,
)
from llorch.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    with open_model(tiny_model) as loaded:
        return loaded.tokenizer


@pytest.mark.parametrize(
    ("value", "prompts"),
    [
        ("a", [("a",)]), ([1, 2], [(1, 2)]), ([1, "a"], [(1, "a")]), (["a", 1], [("a", 1)]),
        (["a", "b"], [("a",), ("b",)]),
        ([[1], "a", ["b", 2]], [(1,), ("a",), ("b", 2)]), ({"prompt_string": "a"}, [("a",)]),
        ([{"prompt_string": ["a", 1]}, "b"], [("a", 1), ("b",)]), ([["a", "b"]], [("a", "b")]),
    ],
)  # fmt: skip
def test_a_list_with_an_id_is_one_prompt_and_any_other_is_several(value: Any, prompts: list[Prompt]) -> None:
    assert prompt_faults(value, 10) == []
    assert prompts_of(value) == prompts


def test_each_prompt_at_fault_is_named() -> None:
    faults = prompt_faults(["a", None, ["b", -1], "x" * 11], 10)
    assert [fault.field for fault in faults] == ["prompt[1]", "prompt[2]", "prompt[3]"]
    assert "x" * 11 not in str(faults)


def test_bos_stands_before_a_text_at_the_beginning_and_nowhere_else(tokenizer: Tokenizer) -> None:
    bos, text = tokenizer.vocab.bos_id, tokenizer.encode("a", add_bos=False)
    assert prompt_ids(tokenizer, ("a", 5, "a")) == [bos, *text, 5, *text]
    assert prompt_ids(tokenizer, (5, "a")) == [5, *text]
    assert prompt_ids(tokenizer, ("a",), add_special=False) == text
    assert prompt_ids(tokenizer, ("",)) == [bos]
    assert prompt_ids(tokenizer, ("<s>a",)) == [bos, *text]
    assert prompt_ids(tokenizer, ("<s>a",), parse_special=False) != [bos, *text]


def test_a_prompt_is_shown_with_its_control_tokens(tokenizer: Tokenizer) -> None:
    assert shown_text(tokenizer, prompt_ids(tokenizer, ("ab</s>",))) == "<s> ab</s>"
