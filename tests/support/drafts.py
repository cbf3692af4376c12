"""Engines with and without drafts, drafts that are partly wrong, and what must not depend on either."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from llorch.engine.engine import Engine
from llorch.engine.events import EndEvent, Event, Timings
from llorch.engine.ngram_drafter import NgramDrafter
from llorch.open_model import OpenModel
from llorch.settings import Settings

NO_TIMINGS = Timings(0, 0, 0, 0, 0)


def new_engine(loaded: OpenModel, draft: str, **settings: Any) -> Engine:
    return Engine(loaded, Settings(**{"ctx_size": 64, "parallel": 8, "draft": draft, **settings}))


def untimed(events: list[Event]) -> list[Event]:
    """Events without what a clock, a count of steps or the cache of prefixes says."""
    return [
        replace(e, timings=NO_TIMINGS, usage=replace(e.usage, cached_tokens=0))
        if isinstance(e, EndEvent)
        else e
        for e in events
    ]


def propose_partly_wrong(
    monkeypatch: pytest.MonkeyPatch, answer: Sequence[int], wrong: Sequence[int], share: float, seed: int = 0
) -> None:
    """Drafts are what follows in `answer`, whatever the price, but a share of their tokens is one of `wrong`."""
    chance = random.Random(seed)
    append = NgramDrafter.append

    def count(self: NgramDrafter, token_id: int) -> None:
        append(self, token_id)
        counts[id(self)] = counts.get(id(self), 0) + 1

    def propose(self: NgramDrafter, price: float, most: int) -> tuple[int, ...]:
        begin = counts.get(id(self), 0)
        right = [*answer[begin : begin + max(most, 0)]]
        return tuple(chance.choice(wrong) if chance.random() < share else token_id for token_id in right)

    counts: dict[int, int] = {}
    monkeypatch.setattr(NgramDrafter, "append", count)
    monkeypatch.setattr(NgramDrafter, "propose", propose)
