"""Several generations that make one answer: one for each prompt of a request and each choice that it asks for.

All of them are admitted, or none. One that fails ends the answer; a client that leaves ends them all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from llorch.engine.events import (
    EndEvent,
    EndTokenEvent,
    ErrorEvent,
    Event,
    LastEvent,
    PromptEvent,
    TokenEvent,
)
from llorch.engine.ledger import Submission
from llorch.engine.mailbox import ChoiceEvent
from llorch.engine.request import Request as GenerationRequest
from llorch.engine.service import EngineService
from llorch.server.errors import GenerationFailedError
from llorch.server.streaming import EventStream, finish, on_departure

_FAILED_BESIDE = ErrorEvent("abort", "another choice of its request failed", retriable=True)
"""How a choice ended that was still running then."""


@dataclass(slots=True)
class Outcome:
    """A finished generation.

    Attributes:
        end: how it ended.
        prompt: how probable its prompt was, if the request asked.
        tokens: its tokens, if the request asked how probable they were; the one that ended it comes last.
    """

    end: EndEvent
    prompt: PromptEvent | None = None
    tokens: list[TokenEvent | EndTokenEvent] = field(default_factory=list)


class Choices:
    """The generations of one answer, whose places were reserved together, in the order of their indices."""

    def __init__(self, service: EngineService, submissions: Sequence[Submission]) -> None:
        self._service = service
        self._submissions = submissions
        self._last: list[Event | None] = [None] * len(submissions)
        self._n_unfinished = len(submissions)
        self._has_failed = False

    def __len__(self) -> int:
        return len(self._submissions)

    @property
    def requests(self) -> list[GenerationRequest]:
        """What is computed for each generation."""
        requests = [submission.request for submission in self._submissions]
        return [request for request in requests if request is not None]  # none is None once all are admitted

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """The prompt of each generation as it is computed."""
        return [() if one.request is None else one.request.token_ids for one in self._submissions]

    async def take(self) -> Sequence[ChoiceEvent]:
        """What has happened to them since the last call, as soon as something has; nothing once all is over.

        It is when each has ended, or one has failed: its failure comes last, behind all else of the same step.
        """
        if not self._n_unfinished:
            return ()
        news = await self._submissions[0].mailbox.take()
        failures = []
        for k, event in news:
            self._last[k] = event
            if isinstance(event, ErrorEvent):
                failures.append((k, event))
            self._n_unfinished -= isinstance(event, EndEvent)
        if not failures:
            return news
        self._n_unfinished, self._has_failed = 0, True
        return [one for one in news if not isinstance(one[1], ErrorEvent)] + failures[:1]

    async def events(self) -> AsyncGenerator[ChoiceEvent]:
        """What happens to all of them; leaving early ends them."""
        try:
            while news := await self.take():
                for one in news:
                    yield one
        finally:
            self.release()

    async def outcomes(self, request: Request) -> list[Outcome]:
        """Wait until all have ended; a client that leaves meanwhile ends them.

        Raises:
            GenerationFailedError: one of them failed.
        """
        prompts: dict[int, PromptEvent] = {}
        tokens: list[list[TokenEvent | EndTokenEvent]] = [[] for _ in self._submissions]
        ends: dict[int, EndEvent] = {}
        try:
            with on_departure(request, self.release):
                async for k, event in self.events():
                    if isinstance(event, TokenEvent | EndTokenEvent):
                        if event.logprobs is not None:
                            tokens[k].append(event)
                    elif isinstance(event, PromptEvent):
                        prompts[k] = event
                    elif isinstance(event, EndEvent):
                        ends[k] = event
                    elif isinstance(event, ErrorEvent):
                        raise GenerationFailedError(event)
        finally:
            self.finish()
        return [Outcome(ends[k], prompts.get(k), tokens[k]) for k in range(len(self))]

    def stream(self, write: Callable[[ChoiceEvent], bytes], **form: Any) -> EventStream:
        """The answer that sends every event as it happens; `form` are keywords of `EventStream`."""
        settings = self._service.settings
        stream = EventStream(
            self.take,
            write,
            self.finish,
            keep_alive_s=settings.keep_alive_s,
            send_timeout_s=settings.send_timeout_s,
            **form,
        )
        self._submissions[0].mailbox.shortcut = stream.write_now
        return stream

    def release(self) -> None:
        """End those that are unfinished. Idempotent."""
        for submission in self._submissions:
            self._service.release(submission)

    def finish(self) -> None:
        """End those that are unfinished, and log how each ended."""
        for submission, last in zip(self._submissions, self._last, strict=True):
            ended = last if isinstance(last, LastEvent) or not self._has_failed else _FAILED_BESIDE
            finish(self._service, submission, ended)


async def submit_choices(
    service: EngineService, asked: Sequence[Mapping[str, Any]], *, timeout_s: float | None = None
) -> Choices:
    """Accept all of the generations, or refuse them with the error of the first that is refused.

    Their places are taken together, before the first prompt is tokenised.

    Args:
        service: what computes.
        asked: keywords of `EngineService.submit`, for each; all of one owner.
        timeout_s: seconds after which they end, if the client says so.
    """
    owner = asked[0].get("options", {}).get("owner", "")
    names = [keywords.get("job_id") for keywords in asked]
    places = service.reserve(names, owner=owner, timeout_s=timeout_s)
    try:
        for place, keywords in zip(places, asked, strict=True):
            await service.submit(place=place, **keywords)
    except BaseException:
        for place in places:
            if place.request is None:
                service.withdraw(place)
            else:
                service.release(place)
        raise
    return Choices(service, places)
