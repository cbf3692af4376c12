"""Processors that threads share, as Linux shares them out: turns, and threads that wake up for a moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

SLICE_S = 0.004
"""A thread computes for so long while another one waits for its core: a tick of a kernel with 250 of them a second."""
UNDISTURBED_S = 0.0028
"""Where more than two threads share a core, one that has got it keeps it for so long, whoever wakes up; and who wakes
up for a moment goes behind the others after so long. Chosen to fit how many tokens reach clients of `demo` together:
with 1.4 ms too few of them do with four replicas on two cores, with 4 ms too many."""
_MOMENT_S = 1e-12


Kind = Literal["step", "loop", "client"]


class Thread(NamedTuple):
    """A thread of a replica (or of none), and what it does: `step` computes, others wake up for a moment."""

    replica: int
    kind: Kind


@dataclass(slots=True, eq=False)
class _Work:
    thread: Thread
    core: int = 0  # where it is, or was last
    left_s: float = 0.0  # as if it were alone on the machine
    slowdown: float = 1.0  # while another core computes, too
    is_under_way: bool = False
    turn_s: float = 0.0  # time of its turn that is over
    kept_s: float = 0.0  # since it has got its core, or got it back
    has_had_its_turn: bool = False  # woke up for a moment, and it was a long one

    @property
    def is_step(self) -> bool:
        return self.thread.kind == "step"


class Machine:
    """The cores of one machine, and the threads that compute on them. Time only goes forward.

    Attributes:
        n_cores: cores there are.
        shared: a step takes so many times as long while another one takes turns with it: caches are cold again.
        cpu_s: processor time by kind of thread.
    """

    def __init__(self, n_cores: int, shared: float = 1.0) -> None:
        self.n_cores = n_cores
        self.shared = shared
        self.cpu_s: dict[Kind, float] = {"step": 0.0, "loop": 0.0, "client": 0.0}
        self._queues: list[list[_Work]] = [[] for _ in range(n_cores)]  # the first of each has the core
        self._work: dict[Thread, _Work] = {}
        self._now_s = 0.0

    def begin(
        self, thread: Thread, cores: Sequence[int], alone_s: float, beside_s: float, now_s: float
    ) -> None:
        """Give a thread something to do; one that has just finished goes on with its turn.

        Args:
            thread: it must not have anything to do.
            cores: where it may compute: where fewest others are when it begins.
            alone_s: processor time while the other cores are idle.
            beside_s: the same while all of them compute.
            now_s: when it begins.
        """
        self._move(now_s)
        work = self._work.setdefault(thread, _Work(thread))
        work.left_s, work.is_under_way = alone_s, True
        work.slowdown = max(beside_s / alone_s, 1.0) if alone_s > 0 else 1.0
        if any(work in queue for queue in self._queues):
            return
        work.turn_s = 0.0
        work.core = min(cores, key=lambda i: (len(self._queues[i]), i != work.core))
        self._queues[work.core].append(work)
        self._share(self._queues[work.core])

    def drop(self, thread: Thread, now_s: float) -> None:
        """Take a thread away, whatever it does; nothing if there is none of that name."""
        self._move(now_s)
        work = self._work.pop(thread, None)
        for queue in self._queues:
            if work in queue:
                queue.remove(work)
                self._hand_over(queue)

    def next_change(self, now_s: float) -> float | None:
        """When the first thread finishes, or another one gets a core, if nothing else begins."""
        self._move(now_s)
        self._forget_idle()
        return min((now_s + self._change_s(queue) for queue in self._queues if queue), default=None)

    def advance(self, now_s: float) -> list[Thread]:
        """Let time pass up to the next change at most; the threads that have finished."""
        self._move(now_s)
        finished = []
        for queue in self._queues:
            if queue and queue[0].is_under_way and queue[0].left_s == 0:
                queue[0].is_under_way = False
                finished.append(queue[0].thread)
            else:
                self._share(queue)
        return finished

    def _forget_idle(self) -> None:
        for queue in self._queues:
            if not all(work.is_under_way for work in queue):
                queue[:] = [work for work in queue if work.is_under_way]
                self._hand_over(queue)

    def _hand_over(self, queue: list[_Work]) -> None:
        """Give a core to the next one: those that wake up for a moment go before, unless they have had their turn."""
        queue.sort(key=lambda work: work.is_step or work.has_had_its_turn)
        if queue:
            queue[0].kept_s = 0.0
            queue[0].has_had_its_turn = False

    def _share(self, queue: list[_Work]) -> None:
        """Take a core from a thread whose time is over, or that another one may interrupt."""
        if len(queue) < 2 or self._left_s(queue) > _MOMENT_S:
            return
        first = queue.pop(0)
        if not first.is_step:
            first.has_had_its_turn = True
            queue.append(first)
        elif first.turn_s >= SLICE_S - _MOMENT_S and any(work.is_step for work in queue):
            first.turn_s = 0.0
            queue.append(first)
        else:
            queue.insert(0, first)
            for work in queue:
                work.has_had_its_turn = False
        self._hand_over(queue)

    def _left_s(self, queue: list[_Work]) -> float:
        """For how long the first one of several keeps its core if it has enough to do."""
        first = queue[0]
        undisturbed_s = max(UNDISTURBED_S - first.kept_s, 0.0)
        if not first.is_step:
            return undisturbed_s if any(work.is_step for work in queue) else math.inf
        found: float = math.inf
        if any(work.is_step for work in queue[1:]):
            found = max(SLICE_S - first.turn_s, 0.0)
        brief = [work for work in queue if not work.is_step]
        if brief:
            is_crowded = len(queue) > 2 or any(work.has_had_its_turn for work in brief)
            found = min(found, undisturbed_s if is_crowded else 0.0)
        return found

    def _change_s(self, queue: list[_Work]) -> float:
        """Time until something changes on a core."""
        found = queue[0].left_s * self._slowness(queue)
        return found if len(queue) < 2 else min(found, self._left_s(queue))

    def _slowness(self, queue: list[_Work]) -> float:
        """Seconds for each second of the work under way on a core."""
        n_others = sum(map(bool, self._queues)) - 1
        part = n_others / (self.n_cores - 1) if self.n_cores > 1 else 0.0
        factor = 1 + (queue[0].slowdown - 1) * part
        if queue[0].is_step and sum(work.is_step for work in queue) > 1:
            factor *= self.shared
        return factor

    def _move(self, now_s: float) -> None:
        """Let time pass; nothing may change before `now_s`."""
        passed_s = now_s - self._now_s
        if passed_s > 0:
            self._forget_idle()
            running = [(queue[0], self._slowness(queue)) for queue in self._queues if queue]
            for work, slowness in running:
                self.cpu_s[work.thread.kind] += passed_s
                work.turn_s += passed_s
                work.kept_s += passed_s
                work.left_s = max(work.left_s - passed_s / slowness, 0.0)
                if math.isclose(work.left_s, 0.0, abs_tol=_MOMENT_S):
                    work.left_s = 0.0
        self._now_s = now_s
