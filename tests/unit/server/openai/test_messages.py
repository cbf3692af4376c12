"""The messages of a chat, as clients send them."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.server.routes.openai.messages import MAX_MESSAGES, plain_messages


def plain(*messages: Any) -> list[dict[str, Any]]:
    made, faults = plain_messages(list(messages), 1000)
    assert not faults
    return made


def fields(value: object) -> list[str]:
    return [fault.field for fault in plain_messages(value, 1000)[1]]


def test_contents_become_one_string() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain({"role": "user", "content": parts}) == [{"role": "user", "content": "ab"}]
    assert plain({"role": "user", "content": []}) == [{"role": "user", "content": ""}]
    assert plain({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]})[0]["content"] == "no"


def test_developers_are_the_system() -> None:
    assert plain({"role": "developer", "content": "a"}) == [{"role": "system", "content": "a"}]


def test_tool_calls_stay_and_need_no_content() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "tool", "content": "5", "tool_call_id": "1"}
    assert plain({"role": "assistant", "tool_calls": [call]}, answer) == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        answer,
    ]


def test_other_members_are_dropped() -> None:
    message = {"role": "assistant", "content": "a", "refusal": None, "audio": None, "annotations": []}
    assert plain(message) == [{"role": "assistant", "content": "a"}]


@pytest.mark.parametrize("value", [None, [], {}, "text", 5, [{"role": "user", "content": "a"}] * (MAX_MESSAGES + 1)])
def test_no_list_of_messages_is_one_fault(value: object) -> None:
    assert fields(value) == ["messages"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("text", "messages[0]"), (None, "messages[0]"),
        ({"content": "a"}, "messages[0].role"), ({"role": "robot", "content": "a"}, "messages[0].role"),
        ({"role": ["user"], "content": "a"}, "messages[0].role"), ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"), ({"role": "user", "content": {}}, "messages[0].content"),
        ({"role": "user", "content": "\ud800"}, "messages[0].content"),
        ({"role": "user", "content": ["a"]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": [{"type": {}}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_message_is_said_with_its_place(message: object, field: str) -> None:
    assert fields([message]) == [field]


def test_contents_are_limited_together() -> None:
    assert fields([{"role": "user", "content": "a" * 500}] * 2) == []
    assert fields([{"role": "user", "content": "a" * 501}] * 2) == ["messages"]
