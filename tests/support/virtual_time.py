"""An event loop whose clock does not wait: it jumps to the next timer when there is nothing else to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _NoWait(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Counts the time it was asked to wait instead of waiting."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing would ever happen")
            self.now_s += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _NoWait()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time. Without threads: the clock does not wait for them."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)
