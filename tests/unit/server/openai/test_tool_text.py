"""Calls of a choice in OpenAI's JSON: deltas of a stream, and the message they make."""

from __future__ import annotations

from typing import Any

import pytest

from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES
from llorch.engine.events import EndEvent, FinishReason, Timings, Usage
from llorch.server.routes.openai.tool_text import ChoiceDeltas, message_of

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def end(text: str, finish_reason: FinishReason = "stop") -> EndEvent:
    timings = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
    return EndEvent("job", finish_reason, text, (), Usage(1, 1, 0), 0, None, timings)


def parser() -> ToolCallParser:
    return ToolCallParser(HERMES, ["add"], new_id=lambda: "id1")


def whole_call(arguments: str = '{"a": 1}') -> dict[str, Any]:
    return {"id": "id1", "type": "function", "function": {"name": "add", "arguments": arguments}}


def test_without_tools_all_text_is_content() -> None:
    assert message_of(end(CALL), None) == ({"role": "assistant", "content": CALL, "refusal": None}, "stop")
    assert ChoiceDeltas(None).push(CALL) == [{"content": CALL}]
    assert ChoiceDeltas(None).push("") == []


def test_a_message_has_its_calls_and_no_content_unless_there_is_some() -> None:
    message, reason = message_of(end(CALL), parser())
    assert message == {"role": "assistant", "content": None, "refusal": None, "tool_calls": [whole_call()]}
    assert reason == "tool_calls"
    message, reason = message_of(end("I look. " + CALL), parser())
    assert (message["content"], message["tool_calls"]) == ("I look.", [whole_call()])
    message, reason = message_of(end("Nothing."), parser())
    assert (message.get("tool_calls"), message["content"], reason) == (None, "Nothing.", "stop")
    assert message_of(end(""), parser())[0]["content"] == ""


@pytest.mark.parametrize("reason", ["length", "abort"])
def test_an_answer_that_breaks_off_says_so_whatever_it_called(reason: FinishReason) -> None:
    message, said = message_of(end(CALL[:44], reason), parser())
    assert message["tool_calls"] == [whole_call('{"a')]
    assert said == reason


def test_deltas_bring_the_name_first_and_the_arguments_as_they_come() -> None:
    deltas = ChoiceDeltas(parser())
    found = [delta for char in CALL for delta in deltas.push(char)] + deltas.finish()
    begin = {"index": 0, **whole_call("")}
    assert found[0] == {"tool_calls": [begin]}
    assert [set(delta["tool_calls"][0]) for delta in found[1:]] == [{"index", "function"}] * len('{"a": 1}')
    assert "".join(delta["tool_calls"][0]["function"]["arguments"] for delta in found[1:]) == '{"a": 1}'
    assert deltas.finish_reason(end(CALL)) == "tool_calls"
    assert deltas.finish_reason(end(CALL, "length")) == "length"


def test_what_was_held_back_comes_with_the_end() -> None:
    deltas = ChoiceDeltas(parser())
    assert deltas.push("<tool_ca") == []
    assert deltas.finish() == [{"content": "<tool_ca"}]
    assert deltas.finish_reason(end("<tool_ca")) == "stop"
