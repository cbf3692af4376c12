"""Frames of the event stream, and what happens to streams whose client is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from llorch.server.sse import EventStream, frame


def test_no_character_of_a_text_ends_a_line_for_any_client() -> None:
    text = "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0xA0, 0x2028, 0x2029))) + "é🦙"
    lines = frame({"type": "token", "text": text}).decode().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1].removeprefix("data: "))["text"] == text


def test_frame_keeps_its_data_on_one_line() -> None:
    assert frame({"type": "token", "text": "a\nb\r\n🦙"}) == (
        'event: token\ndata: {"type":"token","text":"a\\nb\\r\\n🦙"}\n\n'.encode()
    )


async def _endless() -> AsyncGenerator[bytes, None]:
    while True:
        await asyncio.sleep(0.01)
        yield b"event: token\ndata: {}\n\n"


def run(receive_after_s: float | None, send_blocks: bool) -> tuple[int, list[dict[str, Any]]]:
    """Serve an endless stream; how often `on_leave` was called, and what was sent."""
    left: list[int] = []
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600 if receive_after_s is None else receive_after_s)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if send_blocks and message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    async def main() -> None:
        stream = EventStream(_endless(), lambda: left.append(1), keep_alive_s=5, send_timeout_s=0.05)
        scope = {"type": "http", "method": "POST"}
        await asyncio.wait_for(stream(scope, receive, send), 5)

    asyncio.run(main())
    return len(left), sent


def test_client_gone_before_the_first_event_still_calls_on_leave() -> None:
    n_left, _ = run(receive_after_s=0.0, send_blocks=False)
    assert n_left == 1


def test_client_that_takes_nothing_is_dropped_after_the_send_timeout() -> None:
    n_left, sent = run(receive_after_s=None, send_blocks=True)
    assert n_left == 1
    assert len(sent) == 2
