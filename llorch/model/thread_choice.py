"""How many threads a small step is worth: those that have lately been fastest.

A step of a small model lasts less than its threads take to meet, and on a busy machine a thread that the system has
put aside keeps the others waiting for milliseconds. Both show in the time a step takes, so that is what is looked at.
Steps with rows of prompts are cut so that all take the same time: there it is the time for the same work.
Results never depend on the number of threads.
"""

from __future__ import annotations

import math

LARGE_ROWS = 64
"""Rows from which a step always gets all threads."""

WEIGHTS_ROWS = 8
"""Rows that cost as much as reading the weights once, about."""

TRIAL_STEPS = 3
"""Steps of a trial; the first wakes threads and does not count."""

TRIAL_COST = 0.01
"""Share of the time that trials may cost."""

FEWER_COST = 0.003
"""The same of trials with fewer threads, the only ones where nobody disturbs the machine. If there are two, such a step
takes twice as long: one in a hundred would be the p99 between the tokens of every stream."""

_FIRST_TRIAL, _SHORTEST_PAUSE, _LONGEST_PAUSE = 8, 64, 100_000
_NEW_SHARE = 0.25
_OUTLIER = 2.5
_HOPELESS, _HOPELESS_OF_MORE = 1.4, 10.0
"""A trial whose first step takes so many times the usual is over: of fewer threads, and of more, which it wakes."""


class ThreadChoice:
    """Chooses for every size of step between all threads, half of them, a quarter, ... and one."""

    def __init__(self, n_threads: int) -> None:
        self._choices = [n_threads >> shift for shift in range(n_threads.bit_length())]
        self._searches: dict[tuple[int, bool], _Search] = {}
        self._latest: _Search | None = None
        self._price = 1.0

    def choose(self, n_rows: int, work: float = 0.0) -> int:
        """Threads for the next step of `n_rows` rows.

        Args:
            n_rows: rows of the step.
            work: what they cost, in rows at a prompt's begin, where some are a prompt's; else 0.
        """
        if n_rows >= LARGE_ROWS or len(self._choices) == 1:
            self._latest = None
            return self._choices[0]
        self._price = WEIGHTS_ROWS + work if work else 1.0
        size = n_rows.bit_length(), work > 0
        search = self._searches.get(size)
        if search is None:
            search = self._searches[size] = _Search(len(self._choices))
        self._latest = search
        return self._choices[search.choose()]

    def record(self, duration_s: float) -> None:
        """Learn how long the step took whose threads were chosen last."""
        if self._latest is not None:
            self._latest.record(duration_s / self._price)


class _Search:
    """Keeps the time of each choice for steps of one size and tries a neighbour of the best now and then."""

    def __init__(self, n_choices: int) -> None:
        self._times = [math.inf] * n_choices  # infinite: not known
        self._best = 0
        self._direction = 1
        self._pause = _FIRST_TRIAL
        self._trial: int | None = None
        self._trial_times: list[float] = []

    def choose(self) -> int:
        if self._trial is None and self._pause <= 0:
            self._begin_trial()
        return self._best if self._trial is None else self._trial

    def record(self, duration_s: float) -> None:
        if self._trial is not None:
            self._trial_times.append(duration_s)
            limit = _HOPELESS if self._trial > self._best else _HOPELESS_OF_MORE
            is_hopeless = duration_s > limit * self._times[self._best]
            if is_hopeless or len(self._trial_times) == TRIAL_STEPS:
                self._end_trial()
        else:
            self._pause -= 1
            before = self._times[self._best]
            if before < math.inf:
                duration_s = before + _NEW_SHARE * (min(duration_s, _OUTLIER * before) - before)
            self._times[self._best] = duration_s
            if duration_s <= min(self._times):  # nearly always
                return
            # Another is best now; what disturbs this one may be over soon.
            self._pause = min(self._pause, _FIRST_TRIAL)
        self._best = self._times.index(min(self._times))

    def _begin_trial(self) -> None:
        neighbour = self._best + self._direction
        if not 0 <= neighbour < len(self._times):
            self._direction = -self._direction
            neighbour = self._best + self._direction
        self._direction = -self._direction
        self._trial, self._trial_times = neighbour, []

    def _end_trial(self) -> None:
        assert self._trial is not None
        time = min(self._trial_times[1:] or self._trial_times)
        self._times[self._trial] = time
        lost = len(self._trial_times) * max(0.0, time / self._times[self._best] - 1.0)
        share = FEWER_COST if self._trial > self._best else TRIAL_COST
        self._pause = int(min(max(lost / share, _SHORTEST_PAUSE), _LONGEST_PAUSE))
        self._trial = None
