"""Engine services that tests start, and short ways to ask them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from llorch.engine.events import EndEvent, Event, LastEvent
from llorch.engine.ledger import Submission
from llorch.engine.params import SamplingParams
from llorch.engine.service import EngineService
from llorch.settings import Settings

GREEDY = SamplingParams(temperature=0)
ENDLESS: dict[str, Any] = {"prompt": "Hello", "params": GREEDY, "max_tokens": 60000, "ignore_eos": True}
"""A request that is unfinished whenever a test looks at it."""
T = TypeVar("T")


def running(model: Path, **settings: object) -> EngineService:
    fields = {"model": str(model), "parallel": 2, "batch_size": 16, "max_waiting": 3, **settings}
    service = EngineService(Settings(**fields))  # type: ignore[arg-type]
    service.start()
    service.wait_until_ready(120)
    return service


def do(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on an event loop of its own; nothing here may take long."""
    return asyncio.run(asyncio.wait_for(work, 120))


async def stream(submission: Submission) -> AsyncGenerator[Event]:
    """The events of the only generation of a request."""
    event: Event | None = None
    while not isinstance(event, LastEvent):
        for _, event in await submission.mailbox.take():
            yield event


async def events_of(service: EngineService, **fields: Any) -> list[Event]:
    submission = await service.submit(**{"prompt": "Once upon a time", "params": GREEDY, **fields})
    return [event async for event in stream(submission)]


async def end_of(service: EngineService, **fields: Any) -> EndEvent:
    end = (await events_of(service, **fields))[-1]
    assert isinstance(end, EndEvent)
    return end


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)
