"""The messages of a request: what is taken, what it becomes, and that every fault is named."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.chat.messages import MAX_CALLS, MAX_MESSAGES, MAX_PARTS, checked_messages
from llorch.errors import RequestError


def call(**function: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"} | function}


def assistant(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"role": "developer", "content": "Hi"}, {"role": "system", "content": "Hi"}),
        ({"role": "user", "content": ""}, {"role": "user", "content": ""}),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
         {"role": "user", "content": "ab"}),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        ({"role": "user", "content": "Hi", "name": "Ada", "extra": 1},
         {"role": "user", "content": "Hi", "name": "Ada"}),
        ({"role": "assistant", "content": None}, {"role": "assistant", "content": None}),
        ({"role": "assistant"}, {"role": "assistant", "content": None}),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
         {"role": "assistant", "content": "no"}),
        ({"role": "assistant", "content": "a", "refusal": None, "audio": None, "function_call": None,
          "tool_calls": None, "annotations": []}, {"role": "assistant", "content": "a"}),
        ({"role": "assistant", "content": "a", "tool_calls": [], "reasoning_content": "b"},
         {"role": "assistant", "content": "a", "reasoning_content": "b"}),
        ({"role": "tool", "content": "3", "tool_call_id": "c"},
         {"role": "tool", "content": "3", "tool_call_id": "c"}),
    ],
)  # fmt: skip
def test_what_clients_send_becomes_what_templates_expect(
    given: dict[str, Any], taken: dict[str, Any]
) -> None:
    assert checked_messages([given]) == [taken]


@pytest.mark.parametrize(
    ("arguments", "taken"), [('{"a": [1]}', {"a": [1]}), ("", {}), (" ", {}), ({"a": 1}, {"a": 1})]
)
def test_arguments_of_calls_become_objects(arguments: Any, taken: dict[str, Any]) -> None:
    (message,) = checked_messages([assistant(call(arguments=arguments))])
    assert message["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": taken}}
    ]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("Hi", "messages"),
        (None, "messages"),
        ([], "messages"),
        ([{"role": "user", "content": "a"}] * (MAX_MESSAGES + 1), "messages"),
        ([None], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"role": "root", "content": "a"}], "messages[0].role"),
        ([{"role": ["user"], "content": "a"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "system", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text", "text": "a"}}], "messages[0].content"),
        ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": ["text"], "text": "a"}]}], "messages[0].content[0].type"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}] * (MAX_PARTS + 1)}],
            "messages[0].content",
        ),
        ([{"role": "user", "content": "a", "name": 7}], "messages[0].name"),
        ([{"role": "user", "content": "a", "name": "a" * 257}], "messages[0].name"),
        ([{"role": "tool", "content": "a", "tool_call_id": []}], "messages[0].tool_call_id"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([assistant(*[call()] * (MAX_CALLS + 1))], "messages[0].tool_calls"),
        ([assistant(None)], "messages[0].tool_calls[0]"),
        ([assistant({"function": "f"})], "messages[0].tool_calls[0]"),
        ([assistant(call() | {"type": "custom"})], "messages[0].tool_calls[0].type"),
        ([assistant(call(name=None))], "messages[0].tool_calls[0].function.name"),
        ([assistant(call(arguments=None))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(call(arguments="[1]"))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(call(arguments='{"a": NaN}'))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(call(arguments="[" * 99999))], "messages[0].tool_calls[0].function.arguments"),
        ([assistant(call(arguments="9" * 9999))], "messages[0].tool_calls[0].function.arguments"),
    ],
)
def test_a_fault_names_its_field(given: Any, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        checked_messages(given)
    (fault,) = caught.value.errors
    assert fault.field == field
    assert field in fault.message


def test_a_picture_is_refused_by_its_name() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(RequestError, match="got 'image_url', which this model cannot read"):
        checked_messages([{"role": "user", "content": [{"type": "text", "text": "a"}, picture]}])


def test_all_faults_are_named_at_once_and_no_text_is_repeated() -> None:
    with pytest.raises(RequestError) as caught:
        checked_messages(
            [{"role": "secret", "content": "secret"}, {"role": "user", "content": ["secret"]}, 7]
        )
    assert [fault.field for fault in caught.value.errors] == [
        "messages[0].role", "messages[1].content[0]", "messages[2]"
    ]  # fmt: skip
    assert "secret" not in str(caught.value)
