"""Frames of the event stream, and what happens to streams whose client is gone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from typing import Any

from llorch.engine.events import (
    EndEvent,
    ErrorEvent,
    Event,
    PromptEvent,
    StartedEvent,
    Timings,
    TokenEvent,
    Usage,
)
from llorch.server.routes.generate import event_frame, event_json
from llorch.server.streaming import LARGE_PROMPT, EventStream, sse_frame
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


async def _endless(closed: list[int]) -> AsyncGenerator[Event]:
    try:
        while True:
            await asyncio.sleep(0.01)
            yield TokenEvent(0, 7, "a")
    finally:
        closed.append(1)


def run(receive_after_s: float | None, send_blocks: bool) -> tuple[list[Event | None], list[dict[str, Any]]]:
    """Serve an endless stream; what `on_end` was called with, and what was sent."""
    ended: list[Event | None] = []
    closed: list[int] = []
    n_closed: list[int] = []
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600 if receive_after_s is None else receive_after_s)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if send_blocks and message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    async def main() -> None:
        stream = EventStream(_endless(closed), event_frame, ended.append, keep_alive_s=5, send_timeout_s=0.05)
        scope = {"type": "http", "method": "POST"}
        await asyncio.wait_for(stream(scope, receive, send), 5)
        n_closed.append(len(closed))  # before the event loop would close it by itself

    virtual_time.run(main())
    if ended != [None]:
        assert n_closed == [1]
    return ended, sent


def test_client_gone_before_the_first_event_still_ends_the_generation() -> None:
    ended, _ = run(receive_after_s=0.0, send_blocks=False)
    assert ended == [None]


def test_client_gone_in_mid_stream_ends_the_generation() -> None:
    ended, sent = run(receive_after_s=0.2, send_blocks=False)
    assert ended == [TokenEvent(0, 7, "a")]
    assert sent[1]["body"] == event_frame(TokenEvent(0, 7, "a"))


def test_client_that_takes_nothing_is_dropped_after_the_send_timeout() -> None:
    ended, sent = run(receive_after_s=None, send_blocks=True)
    assert len(ended) == 1
    assert len(sent) == 2


def test_log_probabilities_of_a_long_prompt_are_written_outside_the_event_loop() -> None:
    written_on: list[str] = []

    async def events() -> AsyncGenerator[tuple[int, Event]]:
        yield 0, PromptEvent((None,) * LARGE_PROMPT)
        yield 0, PromptEvent((None,) * (LARGE_PROMPT + 1))

    def write(news: tuple[int, Event]) -> bytes:
        written_on.append(threading.current_thread().name)
        return b"data"

    async def main() -> None:
        async def send(message: Any) -> None:
            pass

        stream = EventStream(events(), write, lambda last: None, keep_alive_s=5, send_timeout_s=5)
        await stream({"type": "http", "method": "POST"}, asyncio.Event().wait, send)  # type: ignore[arg-type]

    asyncio.run(main())
    assert written_on[0] == threading.current_thread().name != written_on[1]


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
