"""Texts of answers as output items and events: messages, calls, and what breaks off."""

from __future__ import annotations

import json

import pytest

from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES
from llorch.engine.events import (
    EndEvent,
    ErrorEvent,
    Event,
    FinishReason,
    StartedEvent,
    Timings,
    TokenEvent,
    Usage,
)
from llorch.engine.params import SamplingParams
from llorch.server.choices import Outcome
from llorch.server.routes.openai.responses.answer import ResponseAnswer, response_head
from llorch.server.routes.openai.responses.output import Output
from tests.support.live_server import events
from tests.support.responses import played

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
HEAD = response_head({}, "resp_1", "m", SamplingParams())


def parser() -> ToolCallParser:
    return ToolCallParser(HERMES, ["add"], new_id=lambda: "id1")


def end(text: str, finish_reason: FinishReason = "stop") -> EndEvent:
    timings = Timings(0.0, 0.0, 0.0, 0.0, 0.0)
    return EndEvent("job", finish_reason, text, (), Usage(7, 3, 2), 0, None, timings)


def stream(text: str, *, reason: FinishReason = "stop", has_tools: bool = True) -> list[dict[str, object]]:
    """The events of an answer of one character a token."""
    answer = ResponseAnswer(HEAD, parser() if has_tools else None)
    happened: list[Event] = [
        StartedEvent("job", "m", 7, 0),
        *(TokenEvent(i, 5, char) for i, char in enumerate(text)),
    ]
    data = b"".join(answer.frames((0, event)) for event in [*happened, end(text, reason)])
    return [event for _, event in events(iter(data.decode().split("\n")[:-1]))]


def bare(items: list[dict[str, object]]) -> list[dict[str, object]]:
    """Items without their ids, which are random."""
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


@pytest.mark.parametrize("has_tools", [False, True])
@pytest.mark.parametrize("reason", ["stop", "length", "abort"])
@pytest.mark.parametrize("text", ["", "Hi.", "I add. " + CALL, CALL, CALL + "\nDone." + CALL, CALL[:44]])
def test_a_stream_makes_the_items_of_the_whole_answer(
    text: str, reason: FinishReason, has_tools: bool
) -> None:
    response = played(stream(text, reason=reason, has_tools=has_tools))
    answer = ResponseAnswer(HEAD, parser() if has_tools else None)
    whole = json.loads(answer.body(Outcome(end(text, reason))))
    assert bare(response["output"]) == bare(whole["output"])
    assert {**response, "output": 0, "completed_at": 0} == {**whole, "output": 0, "completed_at": 0}
    status = {"stop": "completed", "length": "incomplete", "abort": "cancelled"}[reason]
    assert whole["status"] == status
    assert whole["incomplete_details"] == ({"reason": "max_output_tokens"} if reason == "length" else None)
    assert whole["output"][-1]["status"] == ("completed" if reason == "stop" else "incomplete")


def test_calls_and_messages_are_items_in_the_order_of_the_text() -> None:
    response = played(stream("I add. " + CALL + "\nDone."))
    kinds = [item["type"] for item in response["output"]]
    assert kinds == ["message", "function_call", "message"]
    call = response["output"][1]
    assert (call["name"], call["call_id"], call["arguments"]) == ("add", "id1", '{"a": 1}')
    assert len({item["id"] for item in response["output"]}) == 3


def test_an_answer_without_a_text_has_one_empty_message() -> None:
    output = Output(None)
    assert output.push("") == []
    assert [event["type"] for event in output.finish(is_complete=True)] == [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert output.items[0]["content"][0]["text"] == ""


def test_tokens_are_counted_in_this_apis_words() -> None:
    usage = json.loads(ResponseAnswer(HEAD, None).body(Outcome(end("a"))))["usage"]
    assert usage == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    }


@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize(
    ("code", "shown"), [("timeout", "server_error"), ("constraint_error", "invalid_prompt")]
)
def test_a_failure_ends_the_stream_with_its_reason(code: str, shown: str, has_begun: bool) -> None:
    answer = ResponseAnswer(HEAD, None)
    happened: list[Event] = [StartedEvent("job", "m", 7, 0)] if has_begun else []
    data = b"".join(answer.frames((0, event)) for event in [*happened, ErrorEvent(code, "too bad", False)])
    response = played([event for _, event in events(iter(data.decode().split("\n")[:-1]))])
    assert (response["status"], response["usage"]) == ("failed", None)
    assert response["error"] == {"code": shown, "message": "too bad"}
