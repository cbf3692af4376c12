"""Which template a model gets, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llorch.chat.builtin import BUILTIN
from llorch.chat.choose import choose_chat_template
from llorch.errors import InputError
from tests.support.chat import chat_tokenizer

TOKENIZER = chat_tokenizer()
USER = [{"role": "user", "content": "Hi"}]
KEY = "tokenizer.chat_template"


def test_the_files_own_counts() -> None:
    template, note = choose_chat_template({KEY: "own"}, TOKENIZER)
    assert (template.render(USER), note, template.name) == ("own", None, KEY)


def test_the_files_own_for_tools_counts_for_tools() -> None:
    template, _ = choose_chat_template({KEY: "own", f"{KEY}.tool_use": "tools"}, TOKENIZER)
    assert template.render(USER, tools=[{"type": "function"}]) == "tools"


def test_a_file_without_one_gets_chatml_and_a_note() -> None:
    template, note = choose_chat_template({}, TOKENIZER)
    assert template.source == BUILTIN["chatml"]
    assert note is not None
    assert "chatml is used" in note


@pytest.mark.parametrize("value", ["{% if %}", "{{ 'a' * 10 ** 9 }}", "{{ x.y.z }}", 7, b"\xff"], ids=repr)
def test_a_broken_one_is_known_at_load_and_noted(value: object) -> None:
    template, note = choose_chat_template({KEY: value}, TOKENIZER)
    assert template.problem is not None
    assert note == f"the chat template cannot be used: {template.problem}; chat requests will be refused"


def test_a_broken_one_for_tools_is_noted() -> None:
    template, note = choose_chat_template({KEY: "own", f"{KEY}.tool_use": "{% if %}"}, TOKENIZER)
    assert template.problem is None
    assert str(note).startswith("tokenizer.chat_template.tool_use is not used: line 1")


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_one_can_be_named(name: str) -> None:
    template, note = choose_chat_template({KEY: "{% if %}"}, TOKENIZER, name)
    assert (template.name, template.source, note) == (name, BUILTIN[name], None)


def test_a_file_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jinja"
    path.write_text("from a file", "utf-8")
    template, _ = choose_chat_template({}, TOKENIZER, str(path))
    assert (template.render(USER), template.name) == ("from a file", str(path))


@pytest.mark.parametrize("source", ["{{ bos_token }}", "{% if true %}{% endif %}"])
def test_a_template_can_be_given_itself(source: str) -> None:
    assert choose_chat_template({}, TOKENIZER, source)[0].source == source


def test_what_is_none_of_these_is_refused_with_the_names() -> None:
    with pytest.raises(
        InputError, match=r"'lama2' is no built-in template \(llama2, llama3, chatml, zephyr\)"
    ):
        choose_chat_template({}, TOKENIZER, "lama2")


@pytest.mark.parametrize(
    "content", [b"{% if %}", b"\xff\xfe", b"x" * 300000], ids=["broken", "binary", "long"]
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jinja"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^chat_template: .*x\.jinja"):
        choose_chat_template({}, TOKENIZER, str(path))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        choose_chat_template({}, TOKENIZER, str(tmp_path))
