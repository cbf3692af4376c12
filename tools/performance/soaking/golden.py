"""A request whose answer must be the same to the last bit, whatever else the server does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tools.performance.soaking.good_clients import SHARED, checked
from tools.performance.soaking.wire import SoakError, ask, post

_SHOWN = {"n_predict": 48, "n_probs": 5, "return_tokens": True}
REQUESTS: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    (
        "/completion",
        {"prompt": SHARED + "One day", "temperature": 0, **_SHOWN},
        ("content", "tokens", "completion_probabilities"),
    ),
    (
        "/completion",
        {"prompt": "The sun", "temperature": 1.2, "seed": 7, **_SHOWN},
        ("content", "tokens", "completion_probabilities"),
    ),
    ("/v1/embeddings", {"input": [SHARED + "One day", "The sun"]}, ("data", "usage")),
)
"""Routes, bodies, and what of the answers must not change.

Answers greedy and sampled, whose logarithms of probabilities show the logits' bits, and vectors of the same texts.
"""


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
        path, fields, members = REQUESTS[i]
        reply = await ask(port, post(path, {**fields, "cache_prompt": chance.random() < 0.7}))
        if not checked(reply):
            return "busy"
        body = reply.json()
        answer = [body[name] for name in members]
        if self._answers.setdefault(i, answer) != answer:
            raise SoakError(f"golden request {i} got other bits than at the beginning")
        self.n_checked += 1
        return "same"

    async def check_all(self, port: int) -> None:
        """Ask for each of them, cached and not, until it is answered."""
        for seed in range(1000):
            if await self.check(port, random.Random(seed)) == "same" and self.n_checked % 12 == 0:
                return
        raise SoakError("the golden requests are never taken")
