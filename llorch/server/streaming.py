"""One generation on its way to its client: events become the frames of an API, and the log says how it ended.

An API brings the function that writes an event as bytes; everything else is the same for all of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from llorch.engine.events import EndEvent, ErrorEvent, Event, LastEvent, PromptEvent
from llorch.engine.ledger import Submission
from llorch.engine.service import EngineService

logger = logging.getLogger(__name__)

# On SIGTERM sse-starlette would cut every stream at once. Ours end by themselves: the server lets them
# finish, and after its grace period the engine aborts the rest, each with an `end` event.
AppStatus.enable_automatic_graceful_drain = False

T = TypeVar("T")
"""What a stream is made of: the events of a generation, or those of several."""

LARGE_PROMPT = 100
"""The log probabilities of more tokens are written outside the event loop."""

_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""Line ends to Unicode but not to server-sent events: clients that split lines the Unicode way (httpx does) would
break an event there, so they travel as JSON escapes. JSON escapes the other ones itself."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` would make one for every event."""


def sse_frame(payload: object, name: str | None = None) -> bytes:
    """A server-sent event with `payload` as JSON data, called `name` if there is one."""
    data = _ENCODER.encode(payload)
    event = "" if name is None else f"event: {name}\n"
    return f"{event}data: {data.translate(_LINE_ENDS)}\n\n".encode()


class _Frames(Generic[T]):
    """Events as bytes. An iterator and no generator, so that closing it closes `events`."""

    def __init__(self, events: AsyncGenerator[T], write: Callable[[T], bytes]) -> None:
        self.last: T | None = None
        self._events = events
        self._write = write

    def __aiter__(self) -> _Frames[T]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            self.last = await anext(self._events)
            if _is_large(self.last):
                frames = await asyncio.to_thread(self._write, self.last)
            else:
                frames = self._write(self.last)
            if frames:
                return frames

    async def aclose(self) -> None:
        await self._events.aclose()


def _is_large(news: object) -> bool:
    """Whether it takes more than a millisecond to write an event, alone or with the index of its generation."""
    event = news[1] if isinstance(news, tuple) else news
    if isinstance(event, EndEvent):
        return event.logits is not None  # a receipt repeats the prompt, and hashes it
    return isinstance(event, PromptEvent) and len(event.logprobs) > LARGE_PROMPT


def _keep_alive() -> ServerSentEvent:
    return ServerSentEvent(comment="keep-alive", sep="\n")


class EventStream(EventSourceResponse, Generic[T]):
    """A `text/event-stream` response, and what to do when it is over.

    Args:
        events: closed when the client leaves.
        write: makes of an event the frames that it is worth: one, several, or no bytes at all.
        on_end: called once, with the last event sent, when the stream has ended or the client is gone. `events`'
            own `finally` is not enough: it never runs when the client leaves before the first event was asked
            for (sse-starlette issue 156).
        keep_alive_s: a comment line is sent this often.
        send_timeout_s: a client that reads nothing for this long is dropped.
    """

    def __init__(
        self,
        events: AsyncGenerator[T],
        write: Callable[[T], bytes],
        on_end: Callable[[T | None], None],
        *,
        keep_alive_s: float,
        send_timeout_s: float,
    ) -> None:
        self._frames = _Frames(events, write)
        self._on_end = on_end
        self._send_timeout_s = send_timeout_s
        self._sending_since_s = math.inf  # clock of the event loop
        super().__init__(
            self._frames, ping=keep_alive_s, ping_message_factory=_keep_alive, sep="\n", send_timeout=None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; a client that reads nothing ends it quietly."""
        stream = asyncio.timeout(None)
        try:
            async with stream:
                self._look(stream)
                await super().__call__(scope, receive, send)
        except TimeoutError:
            if not stream.expired():
                raise
        finally:
            self._next_look.cancel()
            self._on_end(self._frames.last)

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """Send a message. The library's own makes a timer for each: 17 of the 180 µs that a token costs here."""
        self._sending_since_s = asyncio.get_running_loop().time()
        await send(message)
        self._sending_since_s = math.inf

    def _look(self, stream: asyncio.Timeout) -> None:
        """End `stream` if a message has waited for too long; else look again when it will have."""
        loop = asyncio.get_running_loop()
        due_s = min(self._sending_since_s, loop.time()) + self._send_timeout_s
        if due_s <= loop.time():
            stream.reschedule(loop.time())
        else:
            self._next_look = loop.call_at(due_s, self._look, stream)


def event_stream(
    service: EngineService, submission: Submission, write: Callable[[Event], bytes]
) -> EventStream[Event]:
    """The answer that sends every event of a generation as it happens."""
    return EventStream(
        service.stream(submission),
        write,
        lambda last: finish(service, submission, last),
        keep_alive_s=service.settings.keep_alive_s,
        send_timeout_s=service.settings.send_timeout_s,
    )


async def last_event(
    request: Request, service: EngineService, submission: Submission, see: Callable[[Event], None]
) -> LastEvent:
    """Wait for the end of a generation, and call `see` with each event; a client that leaves meanwhile aborts it."""
    last: Event | None = None
    try:
        with on_departure(
            request, lambda: service.release(submission)
        ):  # its `end` event comes within a step
            async for event in service.stream(submission):
                see(event)
                last = event
    finally:
        finish(service, submission, last)
    assert isinstance(last, LastEvent)  # the service ends every stream with one
    return last


@contextmanager
def on_departure(request: Request, leave: Callable[[], None]) -> Iterator[None]:
    """Call `leave` when the client closes the connection meanwhile, and at the end; its body has been read before."""
    departure = asyncio.create_task(_wait_for_departure(request))
    departure.add_done_callback(lambda _: leave())
    try:
        yield
    finally:
        departure.cancel()


async def _wait_for_departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def finish(service: EngineService, submission: Submission, last: Event | None) -> None:
    """End a generation whose client is gone, and log one line about it: counts and times, never text."""
    service.release(submission)
    total_s = time.monotonic() - submission.submitted_s
    extra: dict[str, object] = {
        "job_id": submission.job_id,
        "prompt_tokens": submission.n_prompt,
        "total_s": round(total_s, 4),
    }
    if submission.owner:
        extra["owner"] = submission.owner
    outcome = last.code if isinstance(last, ErrorEvent) else "client left"
    if isinstance(last, EndEvent):
        outcome = "timeout" if last.timed_out else str(last.finish_reason)
        extra["completion_tokens"] = last.usage.completion_tokens
        extra |= {name: round(value, 4) for name, value in dataclasses.asdict(last.timings).items()}
    extra["outcome"] = outcome
    counts = f"{submission.n_prompt} + {extra.get('completion_tokens', '?')} tokens"
    of = f" of {submission.owner}" if submission.owner else ""
    logger.info("%s%s: %s, %s in %.2f s", submission.job_id, of, outcome, counts, total_s, extra=extra)
