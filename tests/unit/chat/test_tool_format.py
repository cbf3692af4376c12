"""Which form of calls a template teaches, and what models read whose templates teach none."""

from __future__ import annotations

import json

import pytest

from llorch.chat.builtin import BUILTIN
from llorch.chat.messages import checked_messages
from llorch.chat.structure import ModelStructure
from llorch.chat.template import ChatTemplate
from llorch.chat.tool_format import (
    HERMES,
    LLAMA,
    MISTRAL,
    SMOLLM2,
    ToolFormat,
    taught_messages,
    tool_format_of,
)
from llorch.text.vocab import TokenType
from tests.support.vocabularies import make_tokenizer

CALL = '{"name": "add", "arguments": {"a": 1}}'

# How the families' templates write calls, in the fewest words.
CALLS = """{{ tools | tojson }}{% for message in messages %}{{ message.content or '' }}\
{% for call in message.tool_calls or [] %}CALL{% endfor %}{% endfor %}"""
TEMPLATES: list[tuple[str, ToolFormat | None]] = [
    ('''<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>''', HERMES),
    ("<tool_call>{{ call.function | tojson }}</tool_call>", HERMES),
    ('<|end_header_id|>\n\n{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}',
     LLAMA),
    ("[TOOL_CALLS][{{ call.function | tojson }}]", MISTRAL),
    ("[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}", None),
    ("<tool_call>\n<function={{ call.function.name }}>", None),
    ("<tool_calls>[{{ call.function | tojson }}]</tool_calls>", None),
    ('[{"tool_name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}]', None),
    ("{{ raise_exception('no calls') }}", None),
]  # fmt: skip


@pytest.mark.parametrize(("call", "tool_format"), TEMPLATES)
def test_what_a_template_makes_of_a_call_tells_the_form(call: str, tool_format: ToolFormat | None) -> None:
    tokenizer = make_tokenizer()
    template = ChatTemplate(CALLS.replace("CALL", call), tokenizer, "test")
    assert template.problem is None
    assert tool_format_of(template) == tool_format


@pytest.mark.parametrize(("name", "tool_format"), [("chatml", SMOLLM2), ("llama2", None), ("zephyr", None)])
def test_of_templates_that_know_no_tools_only_those_of_chatml_are_taught(
    name: str, tool_format: ToolFormat | None
) -> None:
    tokenizer = make_tokenizer(
        special=[("<|im_start|>", TokenType.CONTROL), ("<|im_end|>", TokenType.CONTROL)]
    )
    structure = ModelStructure(tokenizer, ChatTemplate(BUILTIN[name], tokenizer, name))
    assert structure.tool_format == tool_format


def test_control_tokens_that_are_marks_of_calls_are_shown_and_ends_are_not() -> None:
    special = [
        ("<|python_tag|>", TokenType.CONTROL),
        ("<tool_call>", TokenType.USER_DEFINED),
        ("</tool_call>", TokenType.CONTROL),
    ]
    vocab = make_tokenizer(special=special).vocab
    assert LLAMA.control_marks(vocab) == {"<|python_tag|>": 259}
    assert HERMES.control_marks(vocab) == {"</tool_call>": 261}
    assert MISTRAL.control_marks(vocab) == {}


TOOL = {"type": "function", "function": {"name": "add", "description": "Größe {x}"}}


def test_tools_are_taught_in_the_system_message() -> None:
    messages = checked_messages([{"role": "user", "content": "1+1?"}])
    first, second = taught_messages(messages, [TOOL])
    assert first["role"] == "system"
    assert json.dumps(TOOL, ensure_ascii=False) in first["content"]
    assert "<tool_call>[{" in first["content"]
    assert second == messages[0]
    told = [{"role": "system", "content": "Be brief."}, *messages]
    assert taught_messages(told, [TOOL])[0]["content"].startswith("Be brief.\n\n")
    assert len(taught_messages(told, [TOOL])) == 2


def test_calls_and_results_of_earlier_turns_become_text() -> None:
    call = {"id": "abc", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = checked_messages(
        [
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "abc", "content": "2"},
        ]
    )
    assert taught_messages(messages, ()) == [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": f"<tool_call>[{CALL}]</tool_call>"},
        {"role": "user", "content": "<tool_response>\n2\n</tool_response>"},
    ]
