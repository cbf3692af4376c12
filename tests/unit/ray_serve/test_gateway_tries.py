"""What the gateway does when a replica does not answer: another one is asked, in a context of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from llorch.engine.service import EngineService
from llorch.ray_serve import gateway as gateway_module
from llorch.ray_serve.ask import Ask
from llorch.ray_serve.gateway import ReplicaLostError, create_gateway
from tests.support.local_replicas import HOST, Local, ask
from tests.support.services import do, running, until

MARK = ContextVar("MARK", default="none")


@pytest.fixture(scope="module")
def service(long_model: Path) -> Iterator[EngineService]:
    service = running(long_model)
    yield service
    asyncio.run(service.stop(0.0))


class First(Local):
    """The first replica fails, or hangs."""

    error: type[Exception] | None = TimeoutError

    def __init__(self, service: EngineService) -> None:
        super().__init__(service)
        self.marks: list[str] = []

    async def answer(self, ask: Ask) -> AsyncGenerator[list[Message]]:
        self.marks.append(MARK.get())
        if ask.replica == "r0" or (ask.replica is None and len(self.marks) == 1):
            if self.error is None:
                await asyncio.Event().wait()
            else:
                raise self.error
        async with aclosing(super().answer(ask)) as batches:
            async for batch in batches:
                yield batch


@pytest.mark.parametrize("error", [TimeoutError, ReplicaLostError])
def test_a_second_try_is_made_and_is_a_call_of_its_own_for_serve(
    service: EngineService, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    first = First(service)
    monkeypatch.setattr(first, "error", error)
    MARK.set("that of the request")
    assert ask(create_gateway(first, service.settings), "GET", "/v1/models").status_code == 200
    assert first.marks == ["that of the request", "none"]


def test_a_cancellation_is_confirmed_while_another_replica_hangs(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = First(service)
    monkeypatch.setattr(gateway_module, "ANSWER_S", 3600.0)

    async def cancel() -> int:
        app = create_gateway(Local(service), service.settings)
        body = {"prompt": "Hello", "max_tokens": 60000, "ignore_eos": True, "job_id": "mine"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
            generation = asyncio.create_task(client.post("/generate", json=body))
            await until(lambda: service.n_open == 1)
            monkeypatch.setattr(first, "error", None)
            app = create_gateway(first, service.settings)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as other:
                found = await other.post("/cancel", json={"job_id": "mine"})
            assert '"finish_reason":"abort"' in (await generation).text
            return found.status_code

    assert do(cancel()) == 200


def test_a_cancellation_that_a_replica_has_not_answered_is_not_said_to_be_in_vain(
    service: EngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = First(service)
    assert (
        ask(create_gateway(first, service.settings), "POST", "/cancel", json={"job_id": "x"}).status_code
        == 503
    )
    monkeypatch.setattr(first, "error", ReplicaLostError)  # what ran there is no more
    assert (
        ask(create_gateway(first, service.settings), "POST", "/cancel", json={"job_id": "x"}).status_code
        == 404
    )
