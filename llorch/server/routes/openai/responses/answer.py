"""An answer of `POST /v1/responses`: the `response` object, whole or as the events that make it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from llorch.chat.tool_calls import ToolCallParser
from llorch.engine.events import EndEvent, ErrorEvent, StartedEvent, TokenEvent, Usage
from llorch.engine.mailbox import ChoiceEvent
from llorch.engine.params import SamplingParams
from llorch.server.choices import Outcome
from llorch.server.receipts import NO_RECEIPTS, AnswerReceipts
from llorch.server.routes.openai.logprobs import token_logprobs
from llorch.server.routes.openai.responses.output import Event, Output
from llorch.server.routes.openai.structure import FREE, Structure
from llorch.server.streaming import sse_frame
from llorch.text.tokenizer import Tokenizer

_STATUSES = {"stop": "completed", "length": "incomplete", "abort": "cancelled"}


class ResponseAnswer:
    """Writes one answer, as a body or as a stream."""

    def __init__(
        self,
        head: Mapping[str, Any],
        parser: ToolCallParser | None,
        receipts: AnswerReceipts = NO_RECEIPTS,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Begin.

        Args:
            head: members of the `response` object that do not change.
            parser: finds calls in the text, if there may be some.
            receipts: those of the answer.
            tokenizer: the model's, if the answer says how probable tokens were.
        """
        self._head = head
        self._output = Output(parser)
        self._receipts = receipts
        self._tokenizer = tokenizer
        self._n_events = 0

    def body(self, outcome: Outcome) -> bytes:
        """The whole answer as JSON."""
        end, n_chars = outcome.end, 0
        for event in outcome.tokens:
            if isinstance(event, TokenEvent):
                self._token(event)
                n_chars += len(event.text)
        self._output.push(end.text[n_chars:])  # all of it, if there are no log probabilities
        self._output.finish(is_complete=end.finish_reason == "stop")
        document = self._ended(end)
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def frames(self, choice_event: ChoiceEvent) -> bytes:
        """What a stream sends when something has happened."""
        event = choice_event[1]
        if isinstance(event, TokenEvent):
            return self._written(self._token(event))
        if isinstance(event, StartedEvent):
            return self._begun()
        if isinstance(event, EndEvent):
            events = self._output.finish(is_complete=event.finish_reason == "stop")
            response = self._ended(event)
            kind = "response.completed" if response["status"] == "completed" else "response.incomplete"
            return self._written([*events, {"type": kind, "response": response}])
        if isinstance(event, ErrorEvent):
            begun = b"" if self._n_events else self._begun()
            return begun + self._written([{"type": "response.failed", "response": self._failed(event)}])
        return b""

    def _token(self, event: TokenEvent) -> list[Event]:
        entries = () if self._tokenizer is None else token_logprobs(self._tokenizer, [event])
        return self._output.push(event.text, entries)

    def _begun(self) -> bytes:
        kinds = ("response.created", "response.in_progress")
        response = {**self._head, "status": "in_progress", "output": [], "usage": None}
        return self._written([{"type": kind, "response": response} for kind in kinds])

    def _written(self, events: list[Event]) -> bytes:
        """The frames of `events`, which get their numbers."""
        frames = []
        for event in events:
            frames.append(sse_frame({**event, "sequence_number": self._n_events}, event["type"]))
            self._n_events += 1
        return b"".join(frames)

    def _ended(self, end: EndEvent) -> dict[str, Any]:
        status = _STATUSES[end.finish_reason]
        more: dict[str, Any] = {"completed_at": int(time.time())} if status == "completed" else {}
        if status == "incomplete":
            more["incomplete_details"] = {"reason": "max_output_tokens"}
        ended = {"status": status, "output": self._output.items, "usage": _usage(end.usage)}
        return {**self._head, **ended, **more, **self._receipts.member(0, end)}

    def _failed(self, event: ErrorEvent) -> dict[str, Any]:
        # OpenAI's clients know a few codes only, so the message says what failed.
        code = "invalid_prompt" if event.code == "constraint_error" else "server_error"
        error = {"code": code, "message": event.message}
        return {**self._head, "status": "failed", "error": error, "output": self._output.items, "usage": None}


def response_head(
    given: Mapping[str, Any], answer_id: str, model: str, params: SamplingParams
) -> dict[str, Any]:
    """Members of a `response` object that do not change while it is made.

    Args:
        given: the checked fields of the request.
        answer_id: names the answer.
        model: the served one's name.
        params: how tokens are chosen.
    """
    structure: Structure = given.get("structure", FREE)
    return {
        "id": answer_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "metadata": given.get("metadata", {}),
        "model": model,
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": params.temperature,
        "text": {"format": _format_of(given)},
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": [_tool_json(tool["function"]) for tool in structure.shown_tools],
        "top_logprobs": given.get("top_logprobs", 0),
        "top_p": params.top_p,
        "truncation": "disabled",
    }


def _format_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """`text.format` as the answer repeats it."""
    shape = given.get("text", {}).get("format") or {"type": "text"}
    known = ("type", "name", "schema", "strict") if shape["type"] == "json_schema" else ("type",)
    return {name: shape[name] for name in known if name in shape}


def _tool_json(function: Mapping[str, Any]) -> dict[str, Any]:
    """A function of a chat as this API spells it."""
    empty = {"description": None, "parameters": None, "strict": False}
    return {"type": "function", **empty, **function}


def _usage(usage: Usage) -> dict[str, Any]:
    n_prompt, n_completion = usage.prompt_tokens, usage.completion_tokens
    return {
        "input_tokens": n_prompt,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": n_completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": n_prompt + n_completion,
    }
