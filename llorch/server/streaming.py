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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from llorch.engine.events import EndEvent, ErrorEvent, Event, LastEvent, PromptEvent, TokenEvent
from llorch.engine.ledger import Submission
from llorch.engine.mailbox import ChoiceEvent
from llorch.engine.service import EngineService
from llorch.server.protocol import PIECES, PieceWriter

logger = logging.getLogger(__name__)

# On SIGTERM sse-starlette would cut every stream at once. Ours end by themselves: the server lets them
# finish, and after its grace period the engine aborts the rest, each with an `end` event.
AppStatus.enable_automatic_graceful_drain = False

LARGE_PROMPT = 100
"""The log probabilities of more tokens are written outside the event loop."""

_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""Line ends to Unicode but not to server-sent events: clients that split lines the Unicode way (httpx does) would
break an event there, so they travel as JSON escapes. JSON escapes the other ones itself."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` would make one for every event."""


def sse_frame(payload: object, name: str | None = None) -> bytes:
    """A server-sent event with `payload` as JSON data, called `name` if there is one."""
    event = "" if name is None else f"event: {name}\n"
    return f"{event}data: {json_text(payload)}\n\n".encode()


def json_text(payload: object) -> str:
    """`payload` as JSON on one line, whatever a client takes for the end of a line."""
    text = _ENCODER.encode(payload)
    return text if text.isascii() else text.translate(_LINE_ENDS)


TEXT = "\x00"
"""Stands in a `TextFrame` where a text shall be."""


class TextFrame:
    """A frame that is the same for every token but for its text, so that only this is encoded each time.

    Args:
        frame: with `TEXT` as a string in it. Behind it, there must not be another one.
    """

    def __init__(self, frame: bytes) -> None:
        self._before, self._behind = frame.rsplit(json_text(TEXT).encode(), 1)

    def around(self, text: str) -> bytes:
        """The frame with this text."""
        return self._before + json_text(text).encode() + self._behind


class _Frames:
    """Events as bytes: those that have come together, in one piece."""

    def __init__(
        self, take: Callable[[], Awaitable[Sequence[ChoiceEvent]]], write: Callable[[ChoiceEvent], bytes]
    ) -> None:
        self._take = take
        self._write = write

    def __aiter__(self) -> _Frames:
        return self

    async def __anext__(self) -> bytes:
        while news := await self._take():
            frames = [
                await asyncio.to_thread(self._write, one) if _is_large(one[1]) else self._write(one)
                for one in news
            ]
            if piece := b"".join(frames):
                return piece
        raise StopAsyncIteration


def _is_large(event: Event) -> bool:
    """Whether it takes more than a millisecond to write an event."""
    if isinstance(event, EndEvent):
        return event.logits is not None  # a receipt repeats the prompt, and hashes it
    return isinstance(event, PromptEvent) and len(event.logprobs) > LARGE_PROMPT


def _comment() -> bytes:
    return ServerSentEvent(comment="keep-alive", sep="\n").encode()


class EventStream(EventSourceResponse):
    """A stream of events as a response, and what to do when it is over.

    Args:
        take: gives what has happened since it was last called, and waits for that; nothing when the stream is over.
        write: makes of an event the frames that it is worth: one, several, or no bytes at all.
        on_end: called once, when the stream has ended or the client is gone, be it before the first event came.
        keep_alive_s: something is sent at least this often.
        send_timeout_s: a client that reads nothing for this long is dropped.
        media_type: what the frames are.
        keep_alive: makes what is sent while nothing happens, every `keep_alive_s`.
    """

    def __init__(
        self,
        take: Callable[[], Awaitable[Sequence[ChoiceEvent]]],
        write: Callable[[ChoiceEvent], bytes],
        on_end: Callable[[], None],
        *,
        keep_alive_s: float,
        send_timeout_s: float,
        media_type: str = "text/event-stream",
        keep_alive: Callable[[], bytes] = _comment,
    ) -> None:
        self._frames = _Frames(take, write)
        self._write = write
        self._pieces: PieceWriter | None = None
        self._on_end = on_end
        self._send_timeout_s = send_timeout_s
        self._sending_since_s = math.inf  # clock of the event loop
        super().__init__(
            self._frames,
            media_type=media_type,
            ping=keep_alive_s,
            ping_message_factory=cast(
                "Callable[[], ServerSentEvent]", keep_alive
            ),  # it takes bytes as they are
            sep="\n",
            send_timeout=None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; a client that reads nothing ends it quietly."""
        stream = asyncio.timeout(None)
        self._pieces = scope.get(PIECES)
        try:
            async with stream:
                self._look(stream)
                await super().__call__(scope, receive, send)
        except TimeoutError:
            if not stream.expired():
                raise
        finally:
            self._next_look.cancel()
            self._on_end()

    def write_now(self, news: list[ChoiceEvent]) -> bool:
        """Send tokens at once, without waking the task that sends everything else; it must be waiting for news.

        Returns:
            False if nothing was done: that task has to.
        """
        if self._pieces is None or not self._pieces.can_write:
            return False
        for _, event in news:
            if type(event) is not TokenEvent:
                return False
        try:
            frames = [self._write(one) for one in news]
        except Exception:  # raised again there: it is this stream's failure, and no other's
            return False
        self._pieces.write(b"".join(frames))
        return True

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """Send a message. The library's own makes a timer for each."""
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


async def last_event(
    request: Request, service: EngineService, submission: Submission, see: Callable[[Event], None]
) -> LastEvent:
    """Wait for the end of a generation, and call `see` with each event; a client that leaves meanwhile aborts it."""
    last: Event | None = None
    try:
        with on_departure(
            request, lambda: service.release(submission)
        ):  # its `end` event comes within a step
            while not isinstance(last, LastEvent):
                for _, last in await submission.mailbox.take():
                    see(last)
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
