"""Answers as Ollama writes them: calls of tools, lines that keep a connection alive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES
from llorch.engine.events import EndEvent, ErrorEvent, Event, FinishReason, Timings, TokenEvent, Usage
from llorch.server.choices import Outcome
from llorch.server.receipts import NO_RECEIPTS
from llorch.server.routes.ollama.answer import OllamaAnswer

ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2, {"c": "x"}]}}\n</tool_call>'
FUNCTION: dict[str, Any] = {"index": 0, "name": "add", "arguments": {"a": 1, "b": [2, {"c": "x"}]}}
CALL: dict[str, Any] = {"id": "id1", "function": FUNCTION}


def answer() -> OllamaAnswer:
    parser = ToolCallParser(HERMES, ["add"], new_id=lambda: "id1")
    return OllamaAnswer("m", NO_RECEIPTS, is_chat=True, parser=parser)


def end(text: str, reason: FinishReason = "stop") -> EndEvent:
    return EndEvent("job", reason, text, (), Usage(7, 3, 2), 0, None, Timings(0.0, 0.0, 0.0, 0.0, 0.0))


def whole(text: str, reason: FinishReason = "stop") -> Any:
    return json.loads(answer().body(Outcome(end(text, reason))))


def streamed(text: str, reason: FinishReason = "stop") -> list[Any]:
    """The lines of an answer of one character a token."""
    writer = answer()
    events: list[Event] = [*(TokenEvent(i, 5, char) for i, char in enumerate(text)), end(text, reason)]
    return [json.loads(line) for event in events for line in writer.frames((0, event)).splitlines()]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hi.", "Hi.", []),
        ("I add. " + ADD, "I add. ", [CALL]),
        (ADD, "", [CALL]),
        (ADD + "\n" + ADD, "", [CALL, {**CALL, "function": {**FUNCTION, "index": 1}}]),
        (ADD[:44], "", []),
    ],
)  # fmt: skip
def test_calls_come_whole_with_arguments_as_objects(text: str, content: str, calls: list[Any]) -> None:
    message = whole(text, "length")["message"]
    stream = streamed(text, "length")
    assert message["content"].strip() == content.strip()
    assert message.get("tool_calls", []) == calls
    assert "".join(one["message"]["content"] for one in stream) == message["content"]
    assert [call for one in stream for call in one["message"].get("tool_calls", ())] == calls
    assert stream[-1]["done_reason"] == "length"


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [('{"a": NaN}', None), (r'{"a": "\ud800"}', {"a": "?"}), ('{"a": "é\u2028"}', {"a": "é\u2028"})],
)
def test_arguments_that_json_cannot_carry_do_no_harm(spelt: str, meant: object) -> None:
    message = whole(f'<tool_call>\n{{"name": "add", "arguments": {spelt}}}\n</tool_call>')["message"]
    calls = message.get("tool_calls", [])
    assert [call["function"]["arguments"] for call in calls] == ([] if meant is None else [meant])


def test_what_keeps_a_connection_alive_is_an_object_without_text() -> None:
    line = json.loads(answer().nothing())
    assert (line["message"], line["done"]) == ({"role": "assistant", "content": ""}, False)


def test_a_failure_is_the_last_line() -> None:
    assert json.loads(answer().frames((0, ErrorEvent("x", "it failed", False)))) == {"error": "it failed"}


def test_no_duration_is_zero() -> None:
    document = whole("Hi.")
    assert min(value for name, value in document.items() if name.endswith("_duration")) == 1
