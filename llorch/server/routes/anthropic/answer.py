"""A message as Anthropic writes it: its content in blocks, whole or as events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llorch.chat.call_deltas import CallBegin, Content, Delta, arguments_object
from llorch.chat.tool_calls import ToolCallParser
from llorch.engine.events import EndEvent, ErrorEvent, StartedEvent, TokenEvent, Usage
from llorch.engine.mailbox import ChoiceEvent
from llorch.server.errors import event_status
from llorch.server.receipts import AnswerReceipts
from llorch.server.routes.anthropic.errors import error_json
from llorch.server.streaming import json_text, sse_frame

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "abort": "pause_turn"}
Block = dict[str, Any]


class MessageAnswer:
    """Writes one message."""

    def __init__(
        self, head: Mapping[str, Any], receipts: AnswerReceipts, parser: ToolCallParser | None = None
    ) -> None:
        """Begin; without a parser all text is one block."""
        self._head = head
        self._receipts = receipts
        self._parser = parser
        self._n_blocks = 0
        self._block: Block | None = None
        self._blank = ""
        """White space that has been held back: between calls it is no block."""

    def frames(self, choice_event: ChoiceEvent) -> bytes:
        """What a stream sends when something has happened."""
        event = choice_event[1]
        if isinstance(event, StartedEvent):
            nothing: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
            message = {**self._head, **nothing, "usage": _usage(Usage(event.prompt_tokens, 0, 0))}
            begun = [] if self._parser is not None else [*self._begin({"type": "text", "text": ""})]
            return _event("message_start", message=message) + b"".join(begun) + _event("ping")
        if isinstance(event, TokenEvent):
            return b"".join(self._push(event.text))
        if isinstance(event, EndEvent):
            rest = b"".join(self._finish())
            more = self._receipts.member(0, event)
            end = _event("message_delta", delta=self._ending(event), usage=_usage(event.usage), **more)
            return rest + end + _event("message_stop")
        if isinstance(event, ErrorEvent):
            return sse_frame(error_json(event_status(event), event.message), "error")
        return b""

    def body(self, end: EndEvent) -> bytes:
        """The whole message."""
        content = [*self._blocks(end.text)] or [{"type": "text", "text": ""}]
        message = {**self._head, "content": content, **self._ending(end), "usage": _usage(end.usage)}
        return json_text(message | self._receipts.member(0, end)).encode()

    def _blocks(self, text: str) -> Iterator[Block]:
        """The blocks of a whole text."""
        if self._parser is None:
            yield {"type": "text", "text": text}
            return
        block: Block | None = None
        written = ""
        for delta in [*self._parser.push(text), *self._parser.finish()]:
            if isinstance(delta, CallBegin) or (
                isinstance(delta, Content) and (block or {}).get("type") != "text"
            ):
                yield from _closed(block, written)
                written = ""
                block = _tool_block(delta) if isinstance(delta, CallBegin) else {"type": "text"}
            if not isinstance(delta, CallBegin):
                written += delta.text
        yield from _closed(block, written)

    def _push(self, text: str) -> Iterator[bytes]:
        if self._parser is not None:
            for delta in self._parser.push(text):
                yield from self._told(delta)
        elif text:
            yield self._delta({"type": "text_delta", "text": text})

    def _finish(self) -> Iterator[bytes]:
        for delta in self._parser.finish() if self._parser is not None else ():
            yield from self._told(delta)
        if not self._n_blocks:
            yield from self._begin({"type": "text", "text": ""})
        yield from self._stop()

    def _told(self, delta: Delta) -> Iterator[bytes]:
        """The events of what a parser has found."""
        if isinstance(delta, CallBegin):
            yield from self._stop()
            yield from self._begin(_tool_block(delta))
        elif isinstance(delta, Content):
            is_text = self._block is not None and self._block["type"] == "text"
            text, self._blank = self._blank + delta.text, ""
            if not is_text and text.isspace():
                self._blank = text
            elif text:
                if not is_text:
                    yield from self._stop()
                    yield from self._begin({"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
        else:
            yield self._delta({"type": "input_json_delta", "partial_json": delta.text})

    def _begin(self, block: Block) -> Iterator[bytes]:
        self._block, self._blank = block, ""
        yield _event("content_block_start", index=self._n_blocks, content_block=block)
        self._n_blocks += 1

    def _delta(self, delta: Mapping[str, str]) -> bytes:
        return _event("content_block_delta", index=self._n_blocks - 1, delta=delta)

    def _stop(self) -> Iterator[bytes]:
        if self._block is not None:
            self._block = None
            yield _event("content_block_stop", index=self._n_blocks - 1)

    def _ending(self, end: EndEvent) -> dict[str, str | None]:
        reason = "stop_sequence" if end.matched_stop is not None else _STOP_REASONS[end.finish_reason]
        if end.finish_reason == "stop" and self._parser is not None and self._parser.n_calls:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        return {"stop_reason": reason, "stop_sequence": end.matched_stop}


def _tool_block(call: CallBegin) -> Block:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _closed(block: Block | None, written: str) -> Iterator[Block]:
    """A block of a whole message with what belongs in it; text of white space alone is none."""
    if block is None:
        return
    if block["type"] == "tool_use":
        yield {**block, "input": arguments_object(written) or {}}
    elif written and not written.isspace():
        yield {**block, "text": written}


def _usage(usage: Usage) -> dict[str, int]:
    n_cached = usage.cached_tokens
    read = {"input_tokens": usage.prompt_tokens - n_cached, "cache_read_input_tokens": n_cached}
    return {**read, "output_tokens": usage.completion_tokens}


def _event(name: str, **more: object) -> bytes:
    return sse_frame({"type": name, **more}, name)
