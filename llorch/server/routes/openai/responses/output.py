"""The text of an answer as output items, piece by piece: messages and function calls, and the events that make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llorch.chat.call_deltas import CallArguments, CallBegin, Content, Delta
from llorch.chat.tool_calls import ToolCallParser
from llorch.server.routes.openai.requests import new_id

Event = dict[str, Any]
"""An event of a stream, without its number."""
Logprobs = Sequence[dict[str, Any]]
"""How probable tokens were, an entry for each."""


class Output:
    """Makes the items of one answer.

    Attributes:
        items: those that are complete.
    """

    def __init__(self, parser: ToolCallParser | None) -> None:
        """Begin an answer; without a parser all text is one message."""
        self.items: list[dict[str, Any]] = []
        self._parser = parser
        self._open: dict[str, Any] | None = None
        """The item that is being written, without its text."""
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        """Those of the message that is being written."""
        self._n_pushed = 0
        """Characters of the answer."""
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        """Entries of tokens whose text has not come out, and how many characters stand in front of it."""

    def push(self, text: str, logprobs: Logprobs = ()) -> list[Event]:
        """Events for more text.

        Args:
            text: perhaps nothing, while a token is held back.
            logprobs: of the tokens that it came with. They go out with the text of a message; those of calls do not.
        """
        self._waiting += ((self._n_pushed, entry) for entry in logprobs)
        self._n_pushed += len(text)
        if self._parser is None:
            return self._events([Content(text)] if text else [], self._shown(self._n_pushed))
        deltas = self._parser.push(text)
        return self._events(deltas, self._shown(self._n_pushed - self._parser.n_held))

    def _shown(self, n: int) -> list[dict[str, Any]]:
        """Take the entries of tokens that begin among the first `n` characters."""
        shown = [entry for begin, entry in self._waiting if begin < n]
        self._waiting = self._waiting[len(shown) :]
        return shown

    def finish(self, *, is_complete: bool) -> list[Event]:
        """Events for what was held back, and for the end of the last item; there is one at least.

        Args:
            is_complete: whether the answer ended by itself.
        """
        held = self._parser.finish() if self._parser is not None else []
        events = self._events(held, self._shown(self._n_pushed)) if held else []
        if self._open is None and not self.items:
            events += self._begin_message()
        if self._waiting and self._open is not None and self._open["type"] == "message":
            # Tokens without a text, such as those that spell a stop string.
            events.append(self._text_delta("", [entry for _, entry in self._waiting]))
        return [*events, *self._close("completed" if is_complete else "incomplete")]

    def _events(self, deltas: list[Delta], logprobs: list[dict[str, Any]]) -> list[Event]:
        """Events for `deltas`; the first that is text has the entries `logprobs`."""
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, CallBegin):
                events += self._close("completed")
                events += self._begin_call(delta)
            elif isinstance(delta, CallArguments):
                self._pieces.append(delta.text)
                events.append(self._event("response.function_call_arguments.delta", delta=delta.text))
            else:
                if self._open is None or self._open["type"] != "message":
                    events += self._close("completed")
                    events += self._begin_message()
                events.append(self._text_delta(delta.text, logprobs))
                logprobs = []
        return events

    def _text_delta(self, text: str, logprobs: list[dict[str, Any]]) -> Event:
        self._pieces.append(text)
        self._logprobs += logprobs
        more: dict[str, Any] = {"content_index": 0, "delta": text, "logprobs": logprobs}
        return self._event("response.output_text.delta", **more)

    def _begin_message(self) -> list[Event]:
        self._open = {"id": new_id("msg", "_"), "type": "message", "role": "assistant"}
        item = {**self._open, "status": "in_progress", "content": []}
        part = self._event("response.content_part.added", content_index=0, part=_text_part("", []))
        return [self._item_event("response.output_item.added", item), part]

    def _begin_call(self, delta: CallBegin) -> list[Event]:
        self._open = {
            "id": new_id("fc", "_"), "type": "function_call", "call_id": delta.id, "name": delta.name
        }  # fmt: skip
        item = {**self._open, "status": "in_progress", "arguments": ""}
        return [self._item_event("response.output_item.added", item)]

    def _close(self, status: str) -> list[Event]:
        """Complete the open item, if there is one."""
        if self._open is None:
            return []
        text = "".join(self._pieces)
        if self._open["type"] == "message":
            part = _text_part(text, self._logprobs)
            item = {**self._open, "status": status, "content": [part]}
            events = [
                self._event("response.output_text.done", content_index=0, text=text, logprobs=self._logprobs),
                self._event("response.content_part.done", content_index=0, part=part),
            ]
        else:
            item = {**self._open, "status": status, "arguments": text}
            done = {"name": self._open["name"], "arguments": text}
            events = [self._event("response.function_call_arguments.done", **done)]
        events.append(self._item_event("response.output_item.done", item))
        self.items.append(item)
        self._open, self._pieces, self._logprobs = None, [], []
        return events

    def _event(self, kind: str, **more: object) -> Event:
        """An event about a part of the open item."""
        assert self._open is not None  # events begin and end inside an item
        return {"type": kind, "item_id": self._open["id"], "output_index": len(self.items), **more}

    def _item_event(self, kind: str, item: dict[str, Any]) -> Event:
        return {"type": kind, "output_index": len(self.items), "item": item}


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
