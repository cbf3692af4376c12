"""An application's answer to one request as a series of batches of ASGI messages, which its reader may leave early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from starlette.types import ASGIApp, Message

from llorch.ray_serve.ask import Ask

logger = logging.getLogger(__name__)

REPLICA_HEADER = b"x-llorch-replica"
"""Tells clients, and whoever looks for a fault, which replica answered."""

_running: set[asyncio.Task[None]] = set()
"""Answers whose readers have left stay here until their applications have ended."""


async def answer_in_batches(
    app: ASGIApp, ask: Ask, replica: str, has_left: asyncio.Event
) -> AsyncGenerator[list[Message]]:
    """The messages of the answer to `ask`, as many at a time as there are.

    Leaving early tells the application that its client has left.

    Args:
        app: answers.
        ask: the request.
        replica: what the head of the answer names as the one that gave it.
        has_left: is set to say that the reader is gone without having left, and when it leaves.
    """
    outbox: asyncio.Queue[Message | None] = asyncio.Queue()
    task = asyncio.create_task(_run(app, ask, outbox, has_left, replica))
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        is_over = False
        while not is_over:
            batch = [await outbox.get()]
            while not outbox.empty():
                batch.append(outbox.get_nowait())
            is_over = batch[-1] is None
            if messages := [message for message in batch if message is not None]:
                yield messages
    finally:
        has_left.set()


async def _run(
    app: ASGIApp, ask: Ask, outbox: asyncio.Queue[Message | None], has_left: asyncio.Event, replica: str
) -> None:
    body: list[Message] = [{"type": "http.request", "body": ask.body, "more_body": False}]

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (REPLICA_HEADER, replica.encode())]
        outbox.put_nowait(message)

    async def receive() -> Message:
        if body:
            return body.pop()
        await has_left.wait()
        return {"type": "http.disconnect"}

    try:
        await app(dict(ask.scope), receive, send)
    except Exception:  # answered, and logged, by the application
        logger.debug("a request failed", exc_info=True)
    finally:
        outbox.put_nowait(None)
