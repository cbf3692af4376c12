"""A request whose answer must be the same to the last bit, whatever else the server does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tools.performance.soaking.good_clients import SHARED, checked
from tools.performance.soaking.wire import SoakError, ask, post

REQUESTS: tuple[dict[str, Any], ...] = (
    {"prompt": SHARED + "One day", "n_predict": 48, "temperature": 0, "n_probs": 5, "return_tokens": True},
    {
        "prompt": "The sun",
        "n_predict": 48,
        "temperature": 1.2,
        "seed": 7,
        "n_probs": 5,
        "return_tokens": True,
    },
)
"""Greedy and sampled; logarithms of probabilities show the logits' bits."""


@dataclass(slots=True)
class Golden:
    """The answers that were given first, and how often they have been given again.

    Attributes:
        n_checked: answers that were compared.
    """

    n_checked: int = 0
    _answers: dict[int, Any] = field(default_factory=dict)

    async def check(self, port: int, chance: random.Random) -> str:
        """Ask once more.

        Raises:
            SoakError: the answer differs from the first one.
        """
        i = chance.randrange(len(REQUESTS))
        reply = await ask(port, post("/completion", {**REQUESTS[i], "cache_prompt": chance.random() < 0.7}))
        if not checked(reply):
            return "busy"
        body = reply.json()
        answer = body["content"], body["tokens"], body["completion_probabilities"]
        if self._answers.setdefault(i, answer) != answer:
            raise SoakError(f"golden request {i} got other bits than at the beginning")
        self.n_checked += 1
        return "same"

    async def check_all(self, port: int) -> None:
        """Ask for each of them, cached and not, until it is answered."""
        for seed in range(1000):
            if await self.check(port, random.Random(seed)) == "same" and self.n_checked % 8 == 0:
                return
        raise SoakError("the golden requests are never taken")
