"""The messages of a chat, as clients send them."""

from __future__ import annotations

import pytest

from llorch.server.routes.openai.messages import plain_messages


def fields(value: object) -> list[str]:
    return [fault.field for fault in plain_messages(value, 1000)[1]]


def test_contents_in_parts_become_one_string() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain_messages([{"role": "user", "content": parts}], 2) == (
        [{"role": "user", "content": "ab"}],
        [],
    )


def test_an_answer_without_content_is_empty_unless_it_calls_tools() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    answers = [{"role": "assistant", "content": None}, {"role": "assistant", "tool_calls": [call]}]
    messages, faults = plain_messages(answers, 1000)
    assert [message["content"] for message in messages] == ["", None]
    assert not faults


@pytest.mark.parametrize("value", [None, [], {}, "text", 5])
def test_no_list_of_messages_is_one_fault(value: object) -> None:
    assert fields(value) == ["messages"]


def test_what_is_wrong_is_said_with_its_place() -> None:
    assert fields([{"role": "robot", "content": "a"}, {"role": "user", "content": 5}]) == [
        "messages[0].role",
        "messages[1].content",
    ]


def test_texts_are_limited_together() -> None:
    user = {"role": "user", "content": "a" * 500}
    call = {"type": "function", "function": {"name": "", "arguments": '{"a": "bb"}'}}
    assert fields([user, user]) == []
    assert fields([user, user, {"role": "user", "content": "a"}]) == ["messages"]
    assert fields([user, user, {"role": "assistant", "content": None, "tool_calls": [call]}]) == ["messages"]
