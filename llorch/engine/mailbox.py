"""Where the events of one request wait for the event loop that reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from llorch.engine.events import Event

ChoiceEvent: TypeAlias = tuple[int, Event]
"""Index of a generation among those of its request, and what happened to it."""


class Mailbox:
    """The events of all generations of a request, in order of steps; for one reader, on the thread of its event loop.

    No queue of asyncio, which hands out one at a time: what has come together is read, written and sent together.

    Attributes:
        shortcut: where there is one, events that come while the reader waits are shown to it first; if it answers True,
            it has taken them, and the reader need not wake.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin empty; `loop` is the reader's."""
        self.shortcut: Callable[[list[ChoiceEvent]], bool] | None = None
        self._loop = loop
        self._events: list[ChoiceEvent] = []
        self._has_come: asyncio.Future[None] | None = None

    def put(self, events: list[ChoiceEvent]) -> None:
        """Add what has happened."""
        has_come = self._has_come
        if has_come is None or has_come.done():
            self._events += events
        elif self.shortcut is None or not self.shortcut(events):
            self._events += events
            has_come.set_result(None)

    async def take(self) -> list[ChoiceEvent]:
        """All that has come since the last call; waits until there is something. Cancelling it loses nothing."""
        if not self._events:
            self._has_come = self._loop.create_future()
            await self._has_come
        events, self._events = self._events, []
        return events
