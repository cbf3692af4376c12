"""Which gateways a replica works for: Ray lets it go on when the one that asked is gone, for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHECK_S = 1.0
"""How often a replica looks whether the gateways that it works for are alive."""


class Callers:
    """The answers that each gateway waits for.

    Args:
        is_alive: says whether the gateway of that name is there; called outside the event loop.
    """

    def __init__(self, is_alive: Callable[[str], bool]) -> None:
        self._is_alive = is_alive
        self._open: dict[str, set[asyncio.Event]] = {}
        self._watch: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self, gateway: str) -> Iterator[asyncio.Event]:
        """What is set when `gateway` is gone and its answer can be given up."""
        has_left = asyncio.Event()
        self._open.setdefault(gateway, set()).add(has_left)
        if self._watch is None:
            self._watch = asyncio.create_task(self._look())
        try:
            yield has_left
        finally:
            self._open[gateway].discard(has_left)
            if not self._open[gateway]:
                del self._open[gateway]

    async def _look(self) -> None:
        """Look at intervals while anybody waits."""
        while self._open:
            await asyncio.sleep(CHECK_S)
            for gateway in tuple(self._open):
                if not await asyncio.to_thread(self._is_alive, gateway):
                    for has_left in self._open.get(gateway, ()):
                        has_left.set()
        self._watch = None
