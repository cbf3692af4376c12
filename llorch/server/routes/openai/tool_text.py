"""Text and tool calls of one choice of a chat as JSON: deltas of a stream, or the message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llorch.chat.call_deltas import CallArguments, CallBegin, Content, Delta
from llorch.chat.tool_calls import ToolCallParser
from llorch.engine.events import EndEvent


class ChoiceDeltas:
    """Makes deltas of the texts of a choice, as they come."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        """Begin; without a parser all text is content."""
        self._parser = parser

    def push(self, text: str) -> list[dict[str, Any]]:
        """Deltas for more text."""
        if self._parser is None:
            return [{"content": text}] if text else []
        return _shown(self._parser.push(text))

    def finish(self) -> list[dict[str, Any]]:
        """Deltas for what was held back."""
        return [] if self._parser is None else _shown(self._parser.finish())

    def finish_reason(self, event: EndEvent) -> str:
        """Why the choice ended, in OpenAI's words."""
        return _finish_reason(event, 0 if self._parser is None else self._parser.n_calls)


def message_of(event: EndEvent, parser: ToolCallParser | None) -> tuple[dict[str, Any], str]:
    """The message of a finished choice, and why it ended."""
    message: dict[str, Any] = {"role": "assistant", "content": event.text, "refusal": None}
    if parser is None:
        return message, _finish_reason(event, 0)
    content, calls = "", list[dict[str, Any]]()
    for delta in [*parser.push(event.text), *parser.finish()]:
        if isinstance(delta, Content):
            content += delta.text
        elif isinstance(delta, CallBegin):
            function = {"name": delta.name, "arguments": ""}
            calls.append({"id": delta.id, "type": "function", "function": function})
        else:
            calls[delta.index]["function"]["arguments"] += delta.text
    message["content"] = content if content or not calls else None
    if calls:
        message["tool_calls"] = calls
    return message, _finish_reason(event, len(calls))


def _finish_reason(event: EndEvent, n_calls: int) -> str:
    return "tool_calls" if n_calls and event.finish_reason == "stop" else event.finish_reason


def _shown(deltas: Iterable[Delta]) -> list[dict[str, Any]]:
    return [_delta_json(delta) for delta in deltas]


def _delta_json(delta: Delta) -> dict[str, Any]:
    if isinstance(delta, Content):
        return {"content": delta.text}
    if isinstance(delta, CallArguments):
        return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.text}}]}
    function = {"name": delta.name, "arguments": ""}
    return {"tool_calls": [{"index": delta.index, "id": delta.id, "type": "function", "function": function}]}
