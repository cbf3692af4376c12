"""One answer as Ollama writes it: whole, or line by line as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llorch.chat.call_deltas import CallBegin, Content, Delta, arguments_object
from llorch.chat.tool_calls import ToolCallParser
from llorch.engine.events import EndEvent, ErrorEvent, TokenEvent
from llorch.engine.mailbox import ChoiceEvent
from llorch.server.choices import Outcome
from llorch.server.receipts import AnswerReceipts
from llorch.server.routes.ollama.lines import line, now
from llorch.server.routes.openai.logprobs import token_logprobs
from llorch.server.streaming import json_text
from llorch.text.tokenizer import Tokenizer

Calls = list[dict[str, Any]]


class OllamaAnswer:
    """Writes the answer to a chat, or to a text."""

    def __init__(
        self,
        model: str,
        receipts: AnswerReceipts,
        *,
        is_chat: bool,
        tokenizer: Tokenizer | None = None,
        parser: ToolCallParser | None = None,
        prompt: Sequence[int] | None = None,
    ) -> None:
        """Set up.

        Args:
            model: its name.
            receipts: those of the answer.
            is_chat: whether it is a message, or a text.
            tokenizer: if the answer says how probable tokens were.
            parser: what finds calls of tools, if there may be some.
            prompt: token ids that the `context` of the answer begins with, if it has one.
        """
        self._model = model
        self._receipts = receipts
        self._is_chat = is_chat
        self._tokenizer = tokenizer
        self._calls = _Calls(parser)
        self._prompt = prompt

    def frames(self, choice_event: ChoiceEvent) -> bytes:
        """What a stream sends when something has happened."""
        event = choice_event[1]
        if isinstance(event, TokenEvent):
            text, calls = self._calls.push(event.text)
            more = self._logprobs([event])
            return line(self._said(text, calls, **more)) if text or calls or more else b""
        if isinstance(event, EndEvent):
            text, calls = self._calls.finish()
            held = line(self._said(text, calls)) if text or calls else b""
            return held + line(self._said("", [], **self._end(event)))
        if isinstance(event, ErrorEvent):
            return line({"error": event.message})
        return b""

    def body(self, outcome: Outcome) -> bytes:
        """The whole answer."""
        text, calls = self._calls.push(outcome.end.text)
        last_text, last_calls = self._calls.finish()
        more = {**self._logprobs(outcome.tokens), **self._end(outcome.end)}
        return json_text(self._said(text + last_text, calls + last_calls, **more)).encode()

    def nothing(self) -> bytes:
        """A line without news, which shows that the server is still there."""
        return line(self._said("", []))

    def presence(self) -> dict[str, Any]:
        """The answer to whoever asks only whether the model is there."""
        return self._said("", [], done=True, done_reason="load")

    def _said(self, text: str, calls: Calls, **more: Any) -> dict[str, Any]:
        said: dict[str, Any] = {"response": text}
        if self._is_chat:
            said = {
                "message": {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
            }
        return {"model": self._model, "created_at": now(), **said, "done": False, **more}

    def _logprobs(self, tokens: Iterable[Any]) -> dict[str, Any]:
        if self._tokenizer is None:
            return {}
        found = token_logprobs(self._tokenizer, tokens)
        return {"logprobs": found} if found else {}

    def _end(self, end: EndEvent) -> dict[str, Any]:
        times, usage = end.timings, end.usage
        context = {} if self._prompt is None else {"context": [*self._prompt, *end.token_ids]}
        return {
            "done": True,
            "done_reason": end.finish_reason,
            **context,
            "total_duration": _ns(times.queue_s + times.prompt_s + times.decode_s),
            "load_duration": _ns(times.queue_s),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _ns(times.prompt_s),
            "eval_count": usage.completion_tokens,
            "eval_duration": _ns(times.decode_s),
            **self._receipts.member(0, end),
        }


def _ns(seconds: float) -> int:
    """Nanoseconds; clients divide by them, so never 0."""
    return max(round(seconds * 1e9), 1)


class _Calls:
    """Tells text from calls. A call comes out when it is complete, for Ollama's arguments are an object."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self._parser = parser
        self._begun: CallBegin | None = None
        self._arguments = ""

    def push(self, text: str) -> tuple[str, Calls]:
        """Text and calls, once `text` has come."""
        return (text, []) if self._parser is None else self._sorted(self._parser.push(text))

    def finish(self) -> tuple[str, Calls]:
        """What was held back; a call whose arguments were cut off is none."""
        if self._parser is None:
            return "", []
        text, calls = self._sorted(self._parser.finish())
        return text, calls + self._closed()

    def _sorted(self, deltas: Iterable[Delta]) -> tuple[str, Calls]:
        text, calls = "", Calls()
        for delta in deltas:
            if isinstance(delta, Content):
                text += delta.text
            elif isinstance(delta, CallBegin):
                calls += self._closed()
                self._begun = delta
            else:
                self._arguments += delta.text
        return text, calls

    def _closed(self) -> Calls:
        begun, text = self._begun, self._arguments
        self._begun, self._arguments = None, ""
        if begun is None:
            return []
        arguments = arguments_object(text)
        if arguments is None:
            return []
        function = {"index": begun.index, "name": begun.name, "arguments": arguments}
        return [{"id": begun.id, "function": function}]
