"""Messages in blocks: texts, calls, what stands between them and what breaks off."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llorch.chat.tool_calls import ToolCallParser
from llorch.chat.tool_format import HERMES
from llorch.engine.events import EndEvent, Event, FinishReason, StartedEvent, Timings, TokenEvent, Usage
from llorch.server.receipts import NO_RECEIPTS
from llorch.server.routes.anthropic.answer import MessageAnswer
from tests.support.live_server import events

ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
CALL = {"type": "tool_use", "id": "id1", "name": "add", "input": {"a": 1}}
CUT = ADD[:44]


def answer(*, has_tools: bool = True) -> MessageAnswer:
    parser = ToolCallParser(HERMES, ["add"], new_id=lambda: "id1") if has_tools else None
    return MessageAnswer({"id": "m"}, NO_RECEIPTS, parser)


def end(text: str, reason: FinishReason = "stop") -> EndEvent:
    return EndEvent("job", reason, text, (), Usage(7, 3, 2), 0, None, Timings(0.0, 0.0, 0.0, 0.0, 0.0))


def streamed(text: str, *, has_tools: bool = True) -> list[dict[str, Any]]:
    """The blocks that the events of an answer of one character a token make."""
    writer = answer(has_tools=has_tools)
    happened: list[Event] = [
        StartedEvent("job", "m", 7, 0), *(TokenEvent(i, 5, char) for i, char in enumerate(text)), end(text)
    ]  # fmt: skip
    data = b"".join(writer.frames((0, event)) for event in happened)
    blocks: list[dict[str, Any]] = []
    is_open = False
    for name, event in events(iter(data.decode().split("\n")[:-1])):
        if name == "content_block_start":
            assert not is_open
            blocks.append({"written": "", **event["content_block"]})
        if name == "content_block_delta":
            assert is_open
            blocks[-1]["written"] += event["delta"].get("text", "") + event["delta"].get("partial_json", "")
        is_open = name != "content_block_stop" and (is_open or name == "content_block_start")
    assert not is_open
    return [_finished(block) for block in blocks]


def _finished(block: dict[str, Any]) -> dict[str, Any]:
    written = block.pop("written")
    if block["type"] == "text":
        return {**block, "text": written}
    try:
        return {**block, "input": json.loads(written)}
    except ValueError:  # it was cut off
        return block


@pytest.mark.parametrize(
    ("text", "content", "reason"),
    [
        ("", [{"type": "text", "text": ""}], "end_turn"),
        ("Hi.", [{"type": "text", "text": "Hi."}], "end_turn"),
        (ADD, [CALL], "tool_use"),
        ("I add. " + ADD, [{"type": "text", "text": "I add."}, CALL], "tool_use"),
        (ADD + "\n \n" + ADD, [CALL, CALL], "tool_use"),
        (ADD + "\nDone." + ADD, [CALL, {"type": "text", "text": "\nDone."}, CALL], "tool_use"),
        (CUT, [{**CALL, "input": {}}], "tool_use"),
    ],
)
def test_texts_and_calls_are_blocks_whole_and_streamed(
    text: str, content: list[dict[str, Any]], reason: str
) -> None:
    message = json.loads(answer().body(end(text)))
    assert (message["content"], message["stop_reason"]) == (content, reason)
    assert streamed(text) == content


def test_without_tools_all_text_is_one_block() -> None:
    content = [{"type": "text", "text": ADD}]
    assert json.loads(answer(has_tools=False).body(end(ADD)))["content"] == content
    assert streamed(ADD, has_tools=False) == content
    assert streamed("", has_tools=False) == [{"type": "text", "text": ""}]


def test_a_call_that_the_limit_cut_off_is_no_use_of_a_tool() -> None:
    assert json.loads(answer().body(end(CUT, "length")))["stop_reason"] == "max_tokens"
