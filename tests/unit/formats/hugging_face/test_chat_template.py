"""Chat templates of a directory: files of their own come first, as in transformers; named ones keep their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llorch.chat.choose import choose_chat_template
from llorch.errors import ModelError
from llorch.text.tokenizer import load_tokenizer
from tests.support.directory_vocabularies import changed, read

KEY = "tokenizer.chat_template"
BYTES = changed("bytes")


def templates(directory: Path, config: Any = None, **files: Any) -> dict[str, Any]:
    keys = read(directory, tokenizer_json=BYTES, tokenizer_config_json=config or {}, **files)
    return {key.removeprefix(KEY): value for key, value in keys.items() if key.startswith(KEY)}


def test_a_directory_without_a_template_has_no_key(tmp_path: Path) -> None:
    assert templates(tmp_path) == {}
    assert templates(tmp_path, {"chat_template": None}) == {}


def test_the_file_of_its_own_comes_before_json_and_tokenizer_config(tmp_path: Path) -> None:
    config = {"chat_template": "from the config"}
    assert templates(tmp_path, config) == {"": "from the config"}
    assert templates(tmp_path, config, chat_template_json={"chat_template": "json"}) == {"": "json"}
    text = "{{ 'ä' }}\n"
    assert templates(tmp_path, config, chat_template_jinja=text) == {"": text}
    assert templates(tmp_path, config, chat_template_jinja=b"\xef\xbb\xbfx") == {"": "x"}


@pytest.mark.parametrize(
    "value",
    [
        [
            {"name": "default", "template": "a"},
            {"name": "tool_use", "template": "b"},
            {"name": "RAG!", "template": "c"},
        ],
        {"default": "a", "tool_use": "b", "RAG!": "c"},
    ],
)
def test_named_templates_are_the_default_and_those_under_their_names(value: Any, tmp_path: Path) -> None:
    assert templates(tmp_path, {"chat_template": value}) == {
        "": "a", ".tool_use": "b", ".RAG_": "c", "s": [b"tool_use", b"RAG_"],
    }  # fmt: skip


def test_more_templates_lie_in_a_folder_beside_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("b")
    (folder / "notes.txt").write_text("no template")
    found = templates(tmp_path, chat_template_jinja="a")
    assert found == {"": "a", ".tool_use": "b", "s": [b"tool_use"]}


def test_the_template_for_tools_is_used_for_them(tmp_path: Path) -> None:
    plain, for_tools = "{% for m in messages %}{{ m.content }}{% endfor %}", "{{ tools | tojson }}"
    named = [{"name": "default", "template": plain}, {"name": "tool_use", "template": for_tools}]
    keys = read(tmp_path, tokenizer_json=BYTES, tokenizer_config_json={"chat_template": named})
    template, note = choose_chat_template(keys, load_tokenizer(keys))
    assert template.source == plain
    assert note is None or "tool_use" in note


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ("chat_template: expected a string, or a list of names and templates, got int 3", 3),
        ("chat_template: expected a string, or a list of names", []),
        ("chat_template: expected a string, or a list of names", {"default": 3}),
        (r"chat_template\[0\]: expected an object, got str", ["x"]),
        (r"chat_template\[0\].name: expected a string, got nothing", [{"template": "x"}]),
        (r"chat_template\[0\].template: expected a string, got int", [{"name": "x", "template": 1}]),
        (
            "chat_template: expected up to 64 templates, got 65",
            [{"name": str(i), "template": ""} for i in range(65)],
        ),
    ],
)
def test_what_is_no_template_is_refused_by_file_and_key(message: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: " + message):
        templates(tmp_path, {"chat_template": value})


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"chat_template\.jinja: expected UTF-8, got bytes b'\\xff'"):
        templates(tmp_path, chat_template_jinja=b"abc\xff")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: has 4194305 bytes; at most"):
        templates(tmp_path, chat_template_jinja=b"x" * ((1 << 22) + 1))
