"""Choices of a chat as JSON: messages, or the deltas that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llorch.chat.tool_calls import ToolCallParser
from llorch.engine.events import EndEvent, ErrorEvent, ProgressEvent, StartedEvent, TokenEvent
from llorch.engine.mailbox import ChoiceEvent
from llorch.server.choices import Outcome
from llorch.server.receipts import NO_RECEIPTS, AnswerReceipts
from llorch.server.routes.openai.answer import Answer
from llorch.server.routes.openai.logprobs import chat_logprobs
from llorch.server.routes.openai.tool_text import ChoiceDeltas, message_of
from llorch.server.streaming import TEXT, TextFrame
from llorch.text.tokenizer import Tokenizer


class ChatText:
    """Writes the choices of an answer to `POST /v1/chat/completions`."""

    def __init__(
        self,
        answer: Answer,
        tokenizer: Tokenizer,
        prompts: Sequence[tuple[int, ...]],
        *,
        has_logprobs: bool,
        has_token_ids: bool,
        receipts: AnswerReceipts = NO_RECEIPTS,
        new_parser: Callable[[], ToolCallParser | None] = lambda: None,
    ) -> None:
        """Set up.

        Args:
            answer: its head.
            tokenizer: the model's.
            prompts: the ids of each choice's prompt.
            has_logprobs: whether the answer says how probable tokens were.
            has_token_ids: whether it has ids.
            receipts: those of its choices.
            new_parser: makes what finds tool calls in a choice, if there may be some.
        """
        self._answer = answer
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._has_logprobs = has_logprobs
        self._has_token_ids = has_token_ids
        self._receipts = receipts
        self._new_parser = new_parser
        self._deltas = [ChoiceDeltas(new_parser()) for _ in prompts]
        self._plain: dict[int, TextFrame] = {}

    def body(self, outcomes: Sequence[Outcome]) -> bytes:
        """The whole answer."""
        choices = [self._whole(k, outcome) for k, outcome in enumerate(outcomes)]
        return self._answer.body(choices, outcomes, **self._prompt_ids(0))

    def frames(self, choice_event: ChoiceEvent) -> bytes:
        """What a stream sends when something has happened to a choice."""
        k, event = choice_event
        if isinstance(event, TokenEvent):
            return self._token(k, event)
        if isinstance(event, EndEvent):
            held = [self._answer.chunk(self._choice(k, delta)) for delta in self._deltas[k].finish()]
            reason = self._deltas[k].finish_reason(event)
            last = self._choice(k, {}, finish_reason=reason, **self._receipts.member(k, event))
            return b"".join(held) + self._answer.end(k, last, event)
        if isinstance(event, ErrorEvent):
            return self._answer.error(event)
        if isinstance(event, ProgressEvent):
            return self._answer.progress(self._choice(k, {}), event)
        if isinstance(event, StartedEvent):
            first = self._choice(k, {"role": "assistant", "content": None})
            return self._answer.chunk(first, **self._prompt_ids(k))
        return b""

    def _token(self, k: int, event: TokenEvent) -> bytes:
        more: dict[str, Any] = {}
        if self._has_logprobs and event.id is not None:
            more["logprobs"] = chat_logprobs(self._tokenizer, [event])
        if self._has_token_ids:
            more["token_ids"] = [] if event.id is None else [event.id]
        deltas = self._deltas[k].push(event.text)
        if more and not deltas:  # text is held back until it is known to be no stop string, and no call
            deltas = [{"content": ""}]
        frames = [
            self._frame(k).around(delta["content"])
            if not more and [*delta] == ["content"]
            else self._answer.chunk(self._choice(k, delta, **({} if i else more)))
            for i, delta in enumerate(deltas)
        ]
        return b"".join(frames)

    def _frame(self, k: int) -> TextFrame:
        """The frame of a choice's text."""
        if k not in self._plain:
            self._plain[k] = TextFrame(self._answer.chunk(self._choice(k, {"content": TEXT})))
        return self._plain[k]

    def _whole(self, k: int, outcome: Outcome) -> dict[str, Any]:
        message, finish_reason = message_of(outcome.end, self._new_parser())
        choice: dict[str, Any] = {
            "index": k,
            "message": message,
            "logprobs": chat_logprobs(self._tokenizer, outcome.tokens) if self._has_logprobs else None,
            "finish_reason": finish_reason,
        }
        if self._has_token_ids:
            choice["token_ids"] = outcome.end.token_ids
        return choice | self._receipts.member(k, outcome.end)

    def _choice(self, k: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"index": k, "delta": delta, "logprobs": None, "finish_reason": None, **more}

    def _prompt_ids(self, k: int) -> dict[str, Any]:
        return {"prompt_token_ids": self._prompts[k]} if self._has_token_ids else {}
