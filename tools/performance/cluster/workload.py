"""Who asks what and when: users who come back, conversations that grow, beginnings that groups of users share."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

FIRST_ID, LAST_ID = 3, 300
"""Ids of invented prompts: ordinary tokens of any vocabulary."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request.

    Attributes:
        number: in the order of arrival, from 0.
        arrival_s: when it is sent.
        token_ids: the prompt.
        answer_ids: what the simulated model answers; as many tokens are asked for.
    """

    number: int
    arrival_s: float
    token_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """What users are like. Lengths are tokens; messages and answers are spread log-normally around their medians.

    Attributes:
        n_users: who are active.
        period_s: mean time from a user's message to the next one.
        n_groups: system prompts there are; each user has one of them.
        n_system: length of a system prompt.
        n_message: median length of a message.
        n_answer: median length of an answer.
        sigma: of the logarithms of those lengths.
        n_turns: messages of a conversation; then a new one begins.
        n_ctx: longest prompt and answer together; a conversation that would be longer begins anew.
    """

    n_users: int
    period_s: float
    n_groups: int = 8
    n_system: int = 200
    n_message: int = 40
    n_answer: int = 120
    sigma: float = 0.6
    n_turns: int = 4
    n_ctx: int = 2048

    @property
    def jobs_per_s(self) -> float:
        """Mean rate of arrivals."""
        return self.n_users / self.period_s


class _User:
    """A user in the middle of a conversation."""

    def __init__(self, mix: Mix, seed: int, user: int) -> None:
        self._mix = mix
        self._random = random.Random(f"{seed}/{user}")
        self._system = _ids(random.Random(f"{seed}/system{user % mix.n_groups}"), mix.n_system)
        self._text = self._system
        self._n_turns = 0

    def wait_s(self) -> float:
        return self._random.expovariate(1 / self._mix.period_s)

    def ask(self, number: int, now_s: float) -> Job:
        mix = self._mix
        message = _ids(self._random, self._length(mix.n_message))
        answer = _ids(self._random, self._length(mix.n_answer))
        is_full = len(self._text) + len(message) + len(answer) > mix.n_ctx
        if is_full or self._n_turns >= mix.n_turns:
            self._text, self._n_turns = self._system, 0
        room = mix.n_ctx - len(self._text)
        message, answer = message[: room // 2], answer[: room - room // 2]
        prompt = self._text + message
        self._text, self._n_turns = prompt + answer, self._n_turns + 1
        return Job(number, now_s, prompt, answer)

    def _length(self, median: int) -> int:
        return max(1, round(self._random.lognormvariate(math.log(median), self._mix.sigma)))


def _ids(source: random.Random, n: int) -> tuple[int, ...]:
    return tuple(source.choices(range(FIRST_ID, LAST_ID), k=n))


def arrivals(mix: Mix, seconds: float, seed: int = 0) -> Iterator[Job]:
    """The jobs of the first `seconds`, in order: each user's messages are a Poisson process."""
    users = {user: _User(mix, seed, user) for user in range(mix.n_users)}
    line = [(user.wait_s(), number) for number, user in users.items()]
    heapq.heapify(line)
    number = 0
    while line and line[0][0] < seconds:
        now_s, name = line[0]
        yield users[name].ask(number, now_s)
        number += 1
        heapq.heapreplace(line, (now_s + users[name].wait_s(), name))


def burst(mix: Mix, n_jobs: int, seed: int = 0) -> Iterator[Job]:
    """So many first messages at once, each of another user."""
    for number in range(n_jobs):
        yield _User(mix, seed, number).ask(number, 0.0)
