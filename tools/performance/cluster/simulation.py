"""Events in virtual time: requests arrive, steps end, replicas come, go and fail."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llorch.engine.scheduler import Chunk
from tools.performance.cluster.answers import Answers
from tools.performance.cluster.client import CLIENT, SimulatedClient
from tools.performance.cluster.cores import Kind, Machine, Thread
from tools.performance.cluster.figures import Tally
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings, Sent, SimulatedReplica, Step
from tools.performance.cluster.routing import Router
from tools.performance.cluster.step_times import StepTimes
from tools.performance.cluster.workload import Job

RETRY_S = 1.0
"""A client that was refused, or lost its replica, comes back after so long: the smallest `Retry-After`."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines and replicas at the beginning.

    Attributes:
        n_replicas: replicas, each with a core of its own as long as there are some.
        n_cores: cores of a machine; as many replicas run on each.
        n_machines: None: as many as the replicas need; otherwise replicas share cores.
        start_s: from the decision for a new replica until it takes requests.
        shared: on a core that replicas share, a step takes so many times the processor time.
    """

    n_replicas: int
    n_cores: int = 1
    n_machines: int | None = None
    start_s: float = 20.0
    shared: float = 1.0


@dataclass(slots=True)
class _Placed:
    """A replica and where it runs."""

    replica: SimulatedReplica
    machine: int
    core: int
    born_s: float
    step: Step | None = None
    is_sending: bool = False
    is_leaving: bool = False


class Simulation:
    """A cluster in virtual time.

    Attributes:
        now_s: the time.
    """

    def __init__(
        self,
        times: StepTimes,
        settings: ReplicaSettings,
        http: HTTPCosts,
        fleet: Fleet,
        router: Router,
        on_step: Callable[[int, list[Chunk]], None] | None = None,
    ) -> None:
        """Set up; `on_step` sees the replica and the batch of every step."""
        self.now_s = 0.0
        self._answers = Answers()
        self._make = (times, settings, http)
        self._fleet = fleet
        self._router = router
        self._on_step = on_step
        self._machines: dict[int, Machine] = {}
        self._alarms: dict[int, int] = {}  # the latest event of each machine; older ones are void
        self._replicas: dict[int, _Placed] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._client = SimulatedClient(http) if http.client_s + http.client_wake_s > 0 else None
        self._client_cores = range(fleet.n_replicas, fleet.n_cores) or range(fleet.n_cores)
        self._cpu_before_s: dict[Kind, float] = {"step": 0.0, "loop": 0.0}
        self._names = itertools.count()
        for _ in range(fleet.n_replicas):
            self.add_replica()

    def warm_up(self, jobs: Iterable[Job]) -> None:
        """Let jobs pass that no figure counts: replicas know then what their steps take."""
        self.run(jobs)
        self._cpu_before_s = self._cpu_s
        self._answers.tally = Tally()

    @property
    def tally(self) -> Tally:
        """What has happened."""
        return self._answers.tally

    @property
    def n_open(self) -> dict[int, int]:
        """Unfinished requests of each replica that takes requests."""
        return {
            name: len(placed.replica.open) for name, placed in self._replicas.items() if not placed.is_leaving
        }

    def at(self, when_s: float, what: Callable[[], None]) -> int:
        """Do `what` at a time to come."""
        number = next(self._count)
        heapq.heappush(self._events, (when_s, number, what))
        return number

    def run(self, jobs: Iterable[Job], until_s: float = float("inf")) -> Tally:
        """Let the jobs arrive from now on, and go on until all are finished, or the time is over."""
        begin_s = self.now_s
        source = (dataclasses.replace(job, arrival_s=begin_s + job.arrival_s) for job in jobs)
        self._arrive_next(source)
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
        for placed in self._replicas.values():
            self.tally.replica_s += self.now_s - placed.born_s
        step_s, loop_s = (self._cpu_s[kind] - before_s for kind, before_s in self._cpu_before_s.items())
        self.tally.busy_s, self.tally.loop_s = step_s + loop_s, loop_s
        return self.tally

    def add_replica(self) -> int:
        """Start a replica now, on a core of its own, or on one that it shares."""
        name = next(self._names)
        n_cores = self._fleet.n_cores
        place = name % (self._fleet.n_machines * n_cores) if self._fleet.n_machines else name
        machine, core = divmod(place, n_cores)
        self._machines.setdefault(machine, Machine(n_cores, self._fleet.shared))
        watch = self._on_step
        on_step = None if watch is None else (lambda chunks: watch(name, chunks))
        replica = SimulatedReplica(*self._make, on_step)
        self._replicas[name] = _Placed(replica, machine, core, self.now_s)
        return name

    def retire(self, name: int) -> None:
        """Give a replica no more requests; it ends when it has none."""
        self._replicas[name].is_leaving = True
        self._router.forget(name)
        self._end_if_done(name)

    def fail(self, name: int) -> None:
        """A replica is gone at once; the clients of its requests come back, and another one starts."""
        placed = self._replicas.get(name)
        if placed is None:
            return
        self._end(name)
        for job in placed.replica.open.values():
            self.tally.n_restarted += 1
            self._come_back(job)
        self.at(self.now_s + self._fleet.start_s, self._replace)

    @property
    def _cpu_s(self) -> dict[Kind, float]:
        """Processor time of the replicas' threads on all machines."""
        return {
            kind: sum(machine.cpu_s[kind] for machine in self._machines.values())
            for kind in self._cpu_before_s
        }

    def _replace(self) -> None:
        self.add_replica()

    def _arrive_next(self, source: Iterable[Job]) -> None:
        job = next(iter(source), None)
        if job is not None:
            self.at(job.arrival_s, lambda: self._arrive(job, source))

    def _arrive(self, job: Job, source: Iterable[Job]) -> None:
        self._answers.begin(job)
        self._send(job)
        self._arrive_next(source)

    def _send(self, job: Job) -> None:
        n_open = self.n_open
        if not n_open:
            self._come_back(job)
            return
        name = self._router.choose(job.token_ids, n_open)
        if self._replicas[name].replica.offer(job):
            if self._client is None:
                self._replicas[name].replica.arrive(job)
            else:
                self._client.to_send.append((name, job))
                self._wake_client()
        else:
            self._come_back(job)
        self._wake(name)

    def _come_back(self, job: Job) -> None:
        if self._answers.may_try_again(job):
            self.at(self.now_s + RETRY_S, lambda: self._send(job))

    def _wake(self, name: int) -> None:
        """Let the event loop of a replica see what has come, unless it is busy; it looks again when it is not."""
        placed = self._replicas.get(name)
        if placed is None or placed.is_sending:
            return
        seconds = placed.replica.begin_loop()
        if seconds is None:
            return
        placed.is_sending = True
        if seconds:
            self._compute(placed.machine, Thread(name, "loop"), [placed.core], seconds, seconds)
        else:
            self._end_loop(name)

    def _end_loop(self, name: int) -> None:
        placed = self._replicas[name]
        placed.is_sending = False
        self._receive(placed.replica.end_loop())
        self._begin_step(name)
        self._wake(name)
        self._end_if_done(name)

    def _receive(self, tokens: list[Sent]) -> None:
        """Tokens reach their clients: at once, unless those compute on the same machine."""
        if self._client is None:
            for sent in tokens:
                self._answers.count(sent, self.now_s)
        else:
            self._client.arrived += tokens
            self._wake_client()

    def _wake_client(self) -> None:
        assert self._client is not None
        seconds = self._client.begin()
        if seconds is not None:
            self._compute(0, CLIENT, self._client_cores, seconds, seconds)

    def _end_client(self) -> None:
        assert self._client is not None
        jobs, tokens = self._client.end()
        for name, job in jobs:
            self._replicas[name].replica.arrive(job)
            self._wake(name)
        for sent in tokens:
            self._answers.count(sent, self.now_s)
        self._wake_client()

    def _begin_step(self, name: int) -> None:
        placed = self._replicas.get(name)
        if placed is None or placed.step is not None:
            return
        step = placed.step = placed.replica.begin_step(self.now_s)
        if step is not None:
            self._compute(placed.machine, Thread(name, "step"), [placed.core], step.alone_s, step.beside_s)

    def _end_step(self, name: int) -> None:
        placed = self._replicas[name]
        step, placed.step = placed.step, None
        assert step is not None
        placed.replica.end_step(step, self.now_s)
        self._begin_step(name)
        self._wake(name)

    def _compute(
        self, machine: int, thread: Thread, cores: Sequence[int], alone_s: float, beside_s: float
    ) -> None:
        self._machines[machine].begin(thread, cores, alone_s, beside_s, self.now_s)
        self._set_alarm(machine)

    def _set_alarm(self, machine: int) -> None:
        coming_s = self._machines[machine].next_change(self.now_s)
        self._alarms.pop(machine, None)
        if coming_s is not None:
            number = self.at(coming_s, lambda: self._ring(machine, number))
            self._alarms[machine] = number

    def _ring(self, machine: int, number: int) -> None:
        if self._alarms.get(machine) != number:
            return  # something else has begun since, and the change moved
        for thread in self._machines[machine].advance(self.now_s):
            if thread == CLIENT:
                self._end_client()
            elif thread.kind == "loop":
                self._end_loop(thread.replica)
            else:
                self._end_step(thread.replica)
        self._set_alarm(machine)

    def _end_if_done(self, name: int) -> None:
        placed = self._replicas.get(name)
        if placed is not None and placed.is_leaving and not placed.replica.open:
            self._end(name)

    def _end(self, name: int) -> None:
        placed = self._replicas.pop(name)
        self.tally.replica_s += self.now_s - placed.born_s
        self._router.forget(name)
        for kind in ("step", "loop"):
            self._machines[placed.machine].drop(Thread(name, kind), self.now_s)
        self._set_alarm(placed.machine)
