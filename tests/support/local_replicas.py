"""Replicas of Ray Serve's gateway that are applications in this process, and requests to the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Message

from llorch.engine.service import EngineService
from llorch.ray_serve.answering import answer_in_batches
from llorch.ray_serve.ask import Ask
from llorch.ray_serve.gateway import ReplicaLostError
from llorch.server.app import create_app
from tests.support.services import do

HOST = "http://127.0.0.1"


class Local:
    """Replicas in this process, which break off after `breaks_after` messages, the first `n_broken` times."""

    def __init__(
        self, service: EngineService, n: int = 2, breaks_after: int | None = None, n_broken: int = 1000
    ) -> None:
        self._apps = {f"r{i}": create_app(service) for i in range(n)}
        self._breaks_after = breaks_after
        self._n_broken = n_broken
        self.asked: list[Ask] = []

    def names(self) -> tuple[str, ...]:
        return tuple(self._apps)

    async def answer(self, ask: Ask) -> AsyncGenerator[list[Message]]:
        self.asked.append(ask)
        if not self._apps:
            raise ReplicaLostError("there is none")
        name = ask.replica or next(iter(self._apps))
        n_sent = 0
        async with aclosing(answer_in_batches(self._apps[name], ask, name, asyncio.Event())) as batches:
            async for batch in batches:
                for message in batch:
                    if n_sent == self._breaks_after and len(self.asked) <= self._n_broken:
                        raise ReplicaLostError("killed")
                    n_sent += 1
                    yield [message]


def ask(app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
            return await client.request(method, path, **options)

    return do(send())
