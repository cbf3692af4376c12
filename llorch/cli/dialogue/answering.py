"""Answers of the model: from messages to text, with what a listener wants to know about the way."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llorch.chat.messages import checked_messages
from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, ProgressEvent, TokenEvent
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.session import CallerDriver
from llorch.errors import ContextLengthError, InputError
from llorch.open_model import OpenModel
from llorch.settings import Settings

MAX_ROWS = 128
"""Most tokens of a prompt that are read in one step: Ctrl-C counts between steps."""


class FullContextError(InputError):
    """What was said leaves no room for an answer."""

    def __init__(self, n_tokens: int, n_ctx: int) -> None:
        super().__init__(
            f"the conversation has {n_tokens} tokens, and the context of {n_ctx} is full (-c sets a larger one)"
        )


@dataclass(frozen=True, slots=True)
class Choices:
    """How answers are chosen, until the user says otherwise.

    Attributes:
        params: sampling.
        max_tokens: most tokens of an answer; None is as many as the context holds.
        stop: strings that end an answer.
    """

    params: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole or stopped.

    Attributes:
        text: what was shown.
        n_tokens: tokens shown.
        end: how it ended; None if it was stopped.
        fills_context: whether it ended because the context is full.
    """

    text: str
    n_tokens: int
    end: EndEvent | None
    fills_context: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """Who follows an answer.

    Attributes:
        wants_stop: asked after each step.
        on_progress: told how many tokens of the prompt have been read, of how many.
        on_text: given each part of the answer.
    """

    wants_stop: Callable[[], bool]
    on_progress: Callable[[int, int], None]
    on_text: Callable[[str], None]


class Answering:
    """A model that answers messages in its own chat template; what it has read before stays in the KV cache.

    Attributes:
        n_ctx: most tokens of a conversation.
    """

    def __init__(self, loaded: OpenModel, settings: Settings) -> None:
        """Set up for one conversation at a time.

        Raises:
            InputError: the model's chat template cannot be used.
        """
        if problem := loaded.chat_template.problem:
            raise InputError(
                f"the chat template of this model cannot be used ({problem}); --chat-template gives another"
            )
        engine = Engine(loaded, settings.model_copy(update={"parallel": 1}))
        self.n_ctx = engine.n_ctx
        self.name = loaded.name
        self._loaded = loaded
        self._driver = CallerDriver(engine)
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Compute no more; the model is its owner's."""
        self._driver.close()

    def check_system(self, text: str, where: str) -> None:
        """Refuse a system message that the model would not see.

        Raises:
            InputError: the template writes none.
        """
        if text and not self._loaded.chat_template.supports_system:
            raise InputError(f"{where}: the chat template of this model has no place for a system message")

    def check_messages(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """The tokens of `messages`, if they can be answered.

        Raises:
            RequestError: the template refuses them.
            FullContextError: they fill the context.
        """
        n_tokens = len(self._prompt_ids(messages))
        if n_tokens >= self.n_ctx:
            raise FullContextError(n_tokens, self.n_ctx)
        return n_tokens

    def _prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        checked = checked_messages(list(messages))
        return self._loaded.chat_template.prompt_ids(self._loaded.tokenizer, checked)

    def answer(self, messages: Sequence[Mapping[str, Any]], choices: Choices, listener: Listener) -> Answer:
        """Answer the last of `messages`.

        Raises:
            RequestError: the template refuses the messages.
            FullContextError: they fill the context.
            NumericalError: the model computed NaN.
        """
        request = Request(
            job_id=f"chat-{next(self._numbers)}",
            token_ids=tuple(self._prompt_ids(messages)),
            params=choices.params,
            max_tokens=choices.max_tokens or self.n_ctx,
            stop=choices.stop,
            wants_progress=True,
        )
        texts: list[str] = []
        n_tokens = 0
        try:
            events = self._driver.events(request)
        except ContextLengthError as error:
            raise FullContextError(error.n_prompt_tokens, error.n_ctx) from None
        with contextlib.closing(events):
            for event in events:
                if isinstance(event, EndEvent):
                    used = event.usage.prompt_tokens + event.usage.completion_tokens
                    return Answer(
                        event.text, n_tokens, event, event.finish_reason == "length" and used >= self.n_ctx
                    )
                if isinstance(event, ProgressEvent):
                    listener.on_progress(event.n_computed, event.n_prompt)
                elif isinstance(event, TokenEvent):
                    n_tokens += event.id is not None
                    texts.append(event.text)
                    listener.on_text(event.text)
                if listener.wants_stop():
                    break
        return Answer("".join(texts), n_tokens, None)


def responsive(settings: Settings) -> Settings:
    """`settings` for somebody who waits: prompts are read in small steps, with the same results."""
    return settings.model_copy(update={"batch_size": min(settings.batch_size, MAX_ROWS)})


def first_choices(settings: Settings, seed: int | None, stop: tuple[str, ...]) -> Choices:
    """The choices that flags, environment and settings file make; an answer is not cut unless one of them says so."""
    is_limited = "n_predict" in settings.model_fields_set and settings.n_predict > 0
    limit = settings.n_predict if is_limited else None
    return Choices(SamplingParams.from_settings(settings, seed=seed), limit, stop)


def described(answer: Answer, n_ctx: int) -> str:
    """How an answer went, in a line."""
    if answer.end is None:
        return f"[stopped after {answer.n_tokens} tokens]"
    usage, timings = answer.end.usage, answer.end.timings
    used = usage.prompt_tokens + usage.completion_tokens
    ending = "" if answer.end.finish_reason == "stop" else "cut off; "
    return (
        f"[{ending}{usage.completion_tokens} tokens, {timings.decode_tokens_per_s:.1f} tokens/s; "
        f"{usage.cached_tokens} of {usage.prompt_tokens} prompt tokens cached; "
        f"context {100 * used // n_ctx} % full]"
    )


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer for programs."""
    assert answer.end is not None  # only a terminal can stop one
    end = answer.end
    return {
        "text": end.text,
        "token_ids": list(end.token_ids),
        "finish_reason": end.finish_reason,
        "matched_stop": end.matched_stop,
        "seed": end.seed,
        "usage": dataclasses.asdict(end.usage),
        "timings": dataclasses.asdict(end.timings),
    }
