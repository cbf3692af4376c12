"""Frames of the event stream, and what happens to streams whose client is gone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llorch.engine.events import (
    EndEvent,
    ErrorEvent,
    PromptEvent,
    StartedEvent,
    Timings,
    TokenEvent,
    Usage,
)
from llorch.engine.mailbox import ChoiceEvent, Mailbox
from llorch.server.protocol import PIECES
from llorch.server.routes.generate import event_frame, event_json
from llorch.server.streaming import LARGE_PROMPT, TEXT, EventStream, TextFrame, sse_frame
from tests.support import virtual_time


def test_no_character_of_a_text_ends_a_line_for_any_client() -> None:
    text = "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0xA0, 0x2028, 0x2029))) + "é🦙"
    lines = event_frame(TokenEvent(0, 1, text)).decode().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1].removeprefix("data: "))["text"] == text


def test_frame_keeps_its_data_on_one_line() -> None:
    assert event_frame(TokenEvent(0, 7, "a\nb\r\n🦙")) == (
        'event: token\ndata: {"type":"token","i":0,"id":7,"text":"a\\nb\\r\\n🦙"}\n\n'.encode()
    )


def test_a_frame_without_a_name_is_data_alone() -> None:
    assert sse_frame({"a": 1}) == b'data: {"a":1}\n\n'


TOKEN = TokenEvent(0, 7, "a")


def frame(news: ChoiceEvent) -> bytes:
    return event_frame(news[1])


def _endless(stopped: list[int]) -> Callable[[], Awaitable[list[ChoiceEvent]]]:
    """Gives a token each time that it is asked; `stopped` gets a number when nobody waits for one any more."""

    async def take() -> list[ChoiceEvent]:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            stopped.append(1)
            raise
        return [(0, TOKEN)]

    return take


def run(receive_after_s: float | None, send_blocks: bool) -> tuple[int, list[dict[str, Any]]]:
    """Serve an endless stream; how often `on_end` was called, and what was sent."""
    ended: list[int] = []
    stopped: list[int] = []
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600 if receive_after_s is None else receive_after_s)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if send_blocks and message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    async def main() -> None:
        stream = EventStream(
            _endless(stopped), frame, lambda: ended.append(1), keep_alive_s=5, send_timeout_s=0.05
        )
        scope = {"type": "http", "method": "POST"}
        await asyncio.wait_for(stream(scope, receive, send), 60)

    virtual_time.run(main())
    assert stopped == ([] if send_blocks else [1])
    return len(ended), sent


def test_client_gone_before_the_first_event_still_ends_the_generation() -> None:
    n_ended, sent = run(receive_after_s=0.0, send_blocks=False)
    assert (n_ended, len(sent)) == (1, 1)


def test_client_gone_in_mid_stream_ends_the_generation() -> None:
    n_ended, sent = run(receive_after_s=0.2, send_blocks=False)
    assert n_ended == 1
    assert sent[1]["body"] == event_frame(TOKEN)


def test_client_that_takes_nothing_is_dropped_after_the_send_timeout() -> None:
    n_ended, sent = run(receive_after_s=None, send_blocks=True)
    assert n_ended == 1
    assert len(sent) == 2


def test_log_probabilities_of_a_long_prompt_are_written_outside_the_event_loop() -> None:
    written_on: list[str] = []

    batches: list[list[ChoiceEvent]] = [
        [(0, PromptEvent((None,) * n)) for n in (LARGE_PROMPT, LARGE_PROMPT + 1)],
        [],
    ]

    async def take() -> list[ChoiceEvent]:
        return batches.pop(0)

    def write(news: ChoiceEvent) -> bytes:
        written_on.append(threading.current_thread().name)
        return b"data"

    async def main() -> None:
        async def send(message: Any) -> None:
            pass

        stream = EventStream(take, write, lambda: None, keep_alive_s=5, send_timeout_s=5)
        await stream({"type": "http", "method": "POST"}, asyncio.Event().wait, send)  # type: ignore[arg-type]

    asyncio.run(main())
    assert written_on[0] == threading.current_thread().name != written_on[1]


class Pieces:
    """A client that reads what it likes."""

    def __init__(self) -> None:
        self.can_write = True
        self.written: list[bytes] = []

    def write(self, body: bytes) -> None:
        self.written.append(body)


class Talk:
    """A stream whose events come from a mailbox, and what its client has got on which way."""

    def __init__(self, write: Callable[[ChoiceEvent], bytes]) -> None:
        self.pieces = Pieces()
        self.sent: list[bytes] = []
        self.mailbox = Mailbox(asyncio.get_running_loop())
        self._is_over = False
        stream = EventStream(self._take, write, lambda: None, keep_alive_s=5, send_timeout_s=5)
        self.mailbox.shortcut = stream.write_now
        scope = {"type": "http", "method": "POST", PIECES: self.pieces}
        self.answer = asyncio.create_task(stream(scope, asyncio.Event().wait, self._send))  # type: ignore[arg-type]

    async def _take(self) -> list[ChoiceEvent]:
        return [] if self._is_over else await self.mailbox.take()

    async def _send(self, message: Any) -> None:
        self.sent.append(message.get("body", b""))

    async def put(self, *news: ChoiceEvent) -> None:
        self.mailbox.put([*news])
        await asyncio.sleep(0.001)

    async def end(self) -> None:
        self._is_over = True
        await self.put((0, ErrorEvent("c", "m", retriable=False)))
        await self.answer


def test_tokens_go_to_a_client_that_reads_at_once_and_everything_else_by_the_task_of_the_stream() -> None:
    error = event_frame(ErrorEvent("c", "m", retriable=False))
    started = StartedEvent("j", "m", 3, 4)

    async def main() -> None:
        talk = Talk(frame)
        await asyncio.sleep(0.001)
        await talk.put((0, started))
        await talk.put((0, TOKEN), (0, TokenEvent(1, 8, "b")))
        assert talk.pieces.written == [event_frame(TOKEN) + event_frame(TokenEvent(1, 8, "b"))]
        await talk.put((0, TOKEN), (0, started))
        assert len(talk.pieces.written) == 1
        await talk.end()
        assert talk.sent == [b"", event_frame(started), event_frame(TOKEN) + event_frame(started), error, b""]

    virtual_time.run(main())


def test_tokens_wait_for_those_before_them_and_for_a_client_that_does_not_read() -> None:
    async def main() -> None:
        talk = Talk(frame)
        await talk.put((0, TOKEN))  # the head has not been sent when it comes
        talk.pieces.can_write = False
        await talk.put((0, TokenEvent(1, 8, "b")))
        talk.pieces.can_write = True
        talk.mailbox.put([(0, StartedEvent("j", "m", 3, 4))])
        talk.mailbox.put([(0, TokenEvent(2, 9, "c"))])  # the task has not sent the other one yet
        await talk.end()
        assert talk.pieces.written == []
        names = [line for line in b"".join(talk.sent).splitlines() if line.startswith(b"event: ")]
        assert [name.decode()[7:] for name in names] == ["token", "token", "started", "token", "error"]

    virtual_time.run(main())


def test_an_event_that_cannot_be_written_fails_its_stream_and_no_other() -> None:
    def write(news: ChoiceEvent) -> bytes:
        raise ValueError("cannot be written")

    async def main() -> None:
        talk = Talk(write)
        await asyncio.sleep(0.001)
        await talk.put((0, TOKEN))
        with pytest.raises(ValueError, match="cannot be written"):
            await talk.answer

    virtual_time.run(main())


@pytest.mark.parametrize("text", ["a", "", 'é"\n\\\u2028\x00', "\x00", "🦙"])
def test_a_frame_around_a_text_is_the_frame_with_that_text(text: str) -> None:
    def payload(text: str) -> dict[str, Any]:
        return {"id": "\x00", "choices": [{"text": text, "end": None}]}

    assert TextFrame(sse_frame(payload(TEXT))).around(text) == sse_frame(payload(text))


def test_events_are_json_with_their_type() -> None:
    timings = Timings(0.0, 0.1, 10.0, 0.2, 5.0)
    end = EndEvent("j", "length", "text", (3, 4), Usage(1, 2, 0), 2**64 - 1, None, timings)
    for event, expected in (
        (
            StartedEvent("j", "m", 3, 4),
            {"type": "started", "job_id": "j", "model": "m", "prompt_tokens": 3, "seed": 4},
        ),
        (TokenEvent(0, 17, "a"), {"type": "token", "i": 0, "id": 17, "text": "a"}),
        (ErrorEvent("c", "m", True), {"type": "error", "code": "c", "message": "m", "retriable": True}),
        (
            end,
            {
                "type": "end",
                "job_id": "j",
                "finish_reason": "length",
                "text": "text",
                "token_ids": [3, 4],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 0},
                "seed": 2**64 - 1,
                "matched_stop": None,
                "timings": {
                    "queue_s": 0.0,
                    "prompt_s": 0.1,
                    "prompt_tokens_per_s": 10.0,
                    "decode_s": 0.2,
                    "decode_tokens_per_s": 5.0,
                    "drafted_tokens": 0,
                    "accepted_tokens": 0,
                },
            },
        ),
    ):
        assert json.loads(json.dumps(event_json(event))) == expected
