"""Answers that nobody waits for any more because their gateway is gone."""

from __future__ import annotations

import asyncio

import pytest

from llorch.ray_serve import callers as callers_module
from llorch.ray_serve.callers import Callers
from tests.support.services import do


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers_module, "CHECK_S", 0.001)


def test_what_a_gateway_asked_for_is_given_up_when_it_is_gone_and_nothing_else_is() -> None:
    alive = {"one", "two"}
    looks: list[str] = []

    def is_alive(name: str) -> bool:
        looks.append(name)
        return name in alive

    async def run() -> None:
        callers = Callers(is_alive)
        with (
            callers.waiting("one") as first,
            callers.waiting("one") as second,
            callers.waiting("two") as third,
        ):
            while looks.count("one") < 2:
                await asyncio.sleep(0.001)
            assert not first.is_set()
            alive.discard("one")
            await first.wait()
            await second.wait()
            looks.clear()
            while looks.count("two") < 2:
                await asyncio.sleep(0.001)
            assert not third.is_set()

    do(run())


def test_nobody_looks_when_nothing_is_asked_for_and_somebody_does_when_there_is_again() -> None:
    async def run() -> None:
        callers, before = Callers(lambda name: False), asyncio.all_tasks()
        for _ in range(2):
            with callers.waiting("one") as has_left:
                await has_left.wait()
            await asyncio.gather(*(asyncio.all_tasks() - before))  # the look-out ends by itself

    do(run())
