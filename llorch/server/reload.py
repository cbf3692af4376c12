"""What SIGHUP does: files are read again while requests run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from llorch.errors import LlorchError

logger = logging.getLogger(__name__)


class Reloader:
    """Reads files again, one after the other, on another thread than the event loop's.

    Args:
        parts: each reads something again, or raises `LlorchError` and changes nothing.
    """

    def __init__(self, parts: Sequence[Callable[[], None]]) -> None:
        self._parts = parts
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Read everything again soon; called on the event loop."""
        task = asyncio.create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        if not self._parts:
            logger.info("SIGHUP: there is no file of keys and no certificate to read again")
        async with self._lock:
            for part in self._parts:
                try:
                    await asyncio.to_thread(part)
                except LlorchError as error:
                    logger.error("what was read before stays in use: %s", error)
                except Exception as error:
                    logger.error("reading again failed: %s", type(error).__name__, exc_info=error)


def has_terminal() -> bool:
    """Whether the process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
