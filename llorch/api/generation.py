"""The result of a generation in Python, and how it is collected from the engine's events."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass

from llorch.engine.events import EndEvent, Event, FinishReason, Timings, TokenEvent, TokenLogprobs
from llorch.engine.request import Request
from llorch.errors import EngineStoppedError


@dataclass(frozen=True, slots=True)
class Generation:
    """The result of a generation.

    Attributes:
        text: the generated text, without the prompt.
        token_ids: its tokens, without the end-of-generation one.
        prompt_token_ids: the tokens it continues.
        finish_reason: ``"stop"`` (an end-of-generation token or a stop string) or ``"length"``.
        matched_stop: the stop string that ended the text.
        seed: gives the same text again.
        logprobs: how probable each of `token_ids` was, if that was asked for.
        timings: durations and speeds.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: FinishReason
    matched_stop: str | None
    seed: int
    timings: Timings
    logprobs: tuple[TokenLogprobs, ...] | None = None


def collected(events: Generator[Event], request: Request) -> Generator[None, None, Generation]:
    """Go through the events of `request`, which are closed with this generator; what it returns is the result.

    Yields:
        None after each event, so that several generations can be waited for in turns.

    Raises:
        EngineStoppedError: there are no more, and none was the end.
    """
    logprobs: list[TokenLogprobs] = []
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, TokenEvent) and event.logprobs is not None:
                logprobs.append(event.logprobs)
            if isinstance(event, EndEvent):
                return Generation(
                    text=event.text,
                    token_ids=event.token_ids,
                    prompt_token_ids=request.token_ids,
                    finish_reason=event.finish_reason,
                    matched_stop=event.matched_stop,
                    seed=event.seed,
                    timings=event.timings,
                    logprobs=None if request.n_logprobs is None else tuple(logprobs),
                )
            yield
    raise EngineStoppedError("the generation ended without a result")


def in_turns(generations: list[Generator[None, None, Generation]]) -> list[Generation]:
    """The results of several generations, in their order, computed side by side; all end when one of them fails."""
    results: dict[int, Generation] = {}
    with contextlib.ExitStack() as stack:
        for generation in generations:
            stack.enter_context(contextlib.closing(generation))
        while len(results) < len(generations):
            for number, generation in enumerate(generations):
                if number in results:
                    continue
                try:
                    next(generation)
                except StopIteration as end:
                    results[number] = end.value
    return [results[number] for number in range(len(generations))]


def pieces(events: Generator[Event]) -> Generator[str]:
    """The text of `events`, which are closed with this generator."""
    with contextlib.closing(events):
        for event in events:
            if isinstance(event, TokenEvent) and event.text:
                yield event.text
