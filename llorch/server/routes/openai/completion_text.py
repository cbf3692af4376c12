"""Choices of a completion as JSON: whole, or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llorch.engine.events import (
    EndEvent,
    EndTokenEvent,
    ErrorEvent,
    ProgressEvent,
    PromptEvent,
    StartedEvent,
    TokenEvent,
)
from llorch.engine.mailbox import ChoiceEvent
from llorch.server.choices import Outcome
from llorch.server.receipts import NO_RECEIPTS, AnswerReceipts
from llorch.server.routes.openai.answer import Answer
from llorch.server.routes.openai.logprobs import CompletionLogprobs
from llorch.server.streaming import TEXT, TextFrame
from llorch.text.tokenizer import Tokenizer


class CompletionText:
    """Writes the choices of an answer to `POST /v1/completions`."""

    def __init__(
        self,
        answer: Answer,
        tokenizer: Tokenizer,
        prompts: Sequence[tuple[int, ...]],
        *,
        echoed: Sequence[str] | None,
        has_logprobs: bool,
        has_token_ids: bool,
        receipts: AnswerReceipts = NO_RECEIPTS,
    ) -> None:
        """Set up.

        Args:
            answer: its head.
            tokenizer: the model's.
            prompts: the ids of each choice's prompt.
            echoed: the text of each choice's prompt, if the prompts shall be in the answer.
            has_logprobs: whether the answer says how probable tokens were.
            has_token_ids: whether it has ids.
            receipts: those of its choices.
        """
        self._answer = answer
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._echoed = echoed
        self._has_logprobs = has_logprobs
        self._has_token_ids = has_token_ids
        self._receipts = receipts
        self._plain: dict[int, TextFrame] = {}
        has_echo = echoed is not None
        self._logprobs = [CompletionLogprobs(tokenizer, ids, has_echo=has_echo) for ids in prompts]

    def body(self, outcomes: Sequence[Outcome]) -> bytes:
        """The whole answer."""
        return self._answer.body([self._whole(k, outcome) for k, outcome in enumerate(outcomes)], outcomes)

    def frames(self, choice_event: ChoiceEvent) -> bytes:
        """What a stream sends when something has happened to a choice."""
        k, event = choice_event
        if isinstance(event, TokenEvent):
            return self._token(k, event)
        if isinstance(event, EndTokenEvent):
            return self._answer.chunk(self._choice(k, "", logprobs=self._entries(k, event)))
        if isinstance(event, EndEvent):
            receipt = self._receipts.member(k, event)
            last = self._choice(k, "", finish_reason=event.finish_reason, **receipt)
            return self._answer.end(k, last, event)
        if isinstance(event, ErrorEvent):
            return self._answer.error(event)
        if isinstance(event, ProgressEvent):
            return self._answer.progress(self._choice(k, ""), event)
        has_prompt_logprobs = self._echoed is not None and self._has_logprobs
        if isinstance(event, StartedEvent) and not has_prompt_logprobs:
            return self._begin(k, None)
        return self._begin(k, event) if isinstance(event, PromptEvent) and has_prompt_logprobs else b""

    def _begin(self, k: int, event: PromptEvent | None) -> bytes:
        """A first chunk, where there is something to say about the prompt."""
        ids = {"prompt_token_ids": self._prompts[k], "token_ids": []} if self._has_token_ids else {}
        logprobs = (
            None
            if event is None
            else self._logprobs[k].entries(zip(self._prompts[k], event.logprobs, strict=True))
        )
        if self._echoed is None and not ids:
            return b""
        return self._answer.chunk(self._choice(k, self._echo(k), logprobs=logprobs, **ids))

    def _token(self, k: int, event: TokenEvent) -> bytes:
        more: dict[str, Any] = {}
        if self._has_logprobs and event.id is not None:
            more["logprobs"] = self._entries(k, event)
        if self._has_token_ids:
            more["token_ids"] = [] if event.id is None else [event.id]
        if more:
            return self._answer.chunk(self._choice(k, event.text, **more))
        # Text is held back until it is known to be no stop string.
        return self._frame(k).around(event.text) if event.text else b""

    def _frame(self, k: int) -> TextFrame:
        """The frame of a choice's text."""
        if k not in self._plain:
            self._plain[k] = TextFrame(self._answer.chunk(self._choice(k, TEXT)))
        return self._plain[k]

    def _entries(self, k: int, event: TokenEvent | EndTokenEvent) -> dict[str, Any] | None:
        return None if event.id is None else self._logprobs[k].entries([(event.id, event.logprobs)])

    def _whole(self, k: int, outcome: Outcome) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self._has_logprobs:
            tokens = [(event.id, event.logprobs) for event in outcome.tokens if event.id is not None]
            prompt = (
                () if outcome.prompt is None else zip(self._prompts[k], outcome.prompt.logprobs, strict=True)
            )
            more["logprobs"] = self._logprobs[k].entries([*prompt, *tokens])
        if self._has_token_ids:
            more |= {"prompt_token_ids": self._prompts[k], "token_ids": outcome.end.token_ids}
        more |= self._receipts.member(k, outcome.end)
        text = self._echo(k) + outcome.end.text
        return self._choice(k, text, finish_reason=outcome.end.finish_reason, **more)

    def _echo(self, k: int) -> str:
        return "" if self._echoed is None else self._echoed[k]

    def _choice(self, k: int, text: str, **more: Any) -> dict[str, Any]:
        return {"index": k, "text": text, "logprobs": None, "finish_reason": None, **more}
