"""Events in virtual time: requests arrive, steps end, replicas come, go and fail."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llorch.engine.scheduler import Chunk
from tools.performance.cluster.cores import Machine
from tools.performance.cluster.figures import Tally
from tools.performance.cluster.replica import HTTPCosts, ReplicaSettings, Sent, SimulatedReplica, Step
from tools.performance.cluster.routing import Router
from tools.performance.cluster.step_times import StepTimes
from tools.performance.cluster.workload import Job

RETRY_S = 1.0
"""A client that was refused, or lost its replica, comes back after so long: the smallest `Retry-After`."""
MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines and replicas at the beginning.

    Attributes:
        n_replicas: replicas, each with a core of its own as long as there are some.
        n_cores: cores of a machine; as many replicas run on each.
        n_machines: None: as many as the replicas need; otherwise replicas share cores.
        start_s: from the decision for a new replica until it takes requests.
    """

    n_replicas: int
    n_cores: int = 1
    n_machines: int | None = None
    start_s: float = 20.0


@dataclass(slots=True)
class _Placed:
    """A replica and where it runs."""

    replica: SimulatedReplica
    machine: int
    core: int
    born_s: float
    step: Step | None = None
    is_leaving: bool = False


@dataclass(slots=True)
class _Track:
    """A request under way."""

    n_tries: int = 1
    last_s: float = field(default=0.0)
    replica: int = -1


class Simulation:
    """A cluster in virtual time.

    Attributes:
        now_s: the time.
        tally: what has happened.
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
        self.tally = Tally()
        self._make = (times, settings, http)
        self._fleet = fleet
        self._router = router
        self._on_step = on_step
        self._machines: dict[int, Machine] = {}
        self._alarms: dict[int, int] = {}  # the latest event of each machine; older ones are void
        self._replicas: dict[int, _Placed] = {}
        self._tracks: dict[int, _Track] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._busy_before_s = 0.0
        self._names = itertools.count()
        for _ in range(fleet.n_replicas):
            self.add_replica()

    def warm_up(self, jobs: Iterable[Job]) -> None:
        """Let jobs pass that no figure counts: replicas know then what their steps take."""
        self.run(jobs)
        self._busy_before_s = self._busy_s
        self.tally = Tally()

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
        self.tally.busy_s = self._busy_s - self._busy_before_s
        return self.tally

    def add_replica(self) -> int:
        """Start a replica now, on a core of its own, or on one that it shares."""
        name = next(self._names)
        n_cores = self._fleet.n_cores
        place = name % (self._fleet.n_machines * n_cores) if self._fleet.n_machines else name
        machine, core = divmod(place, n_cores)
        self._machines.setdefault(machine, Machine(n_cores))
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
    def _busy_s(self) -> float:
        """Processor time of all machines."""
        return sum(machine.busy_s for machine in self._machines.values())

    def _replace(self) -> None:
        self.add_replica()

    def _arrive_next(self, source: Iterable[Job]) -> None:
        job = next(iter(source), None)
        if job is not None:
            self.at(job.arrival_s, lambda: self._arrive(job, source))

    def _arrive(self, job: Job, source: Iterable[Job]) -> None:
        self.tally.begin_s = min(self.tally.begin_s, job.arrival_s)
        self._tracks[job.number] = _Track()
        self._send(job)
        self._arrive_next(source)

    def _send(self, job: Job) -> None:
        n_open = self.n_open
        if not n_open:
            self._come_back(job)
            return
        name = self._router.choose(job.token_ids, n_open)
        if not self._replicas[name].replica.offer(job):
            self._come_back(job)
            return
        self._tracks[job.number].replica = name
        if self._replicas[name].step is None:
            self._begin_step(name)

    def _come_back(self, job: Job) -> None:
        track = self._tracks[job.number]
        if track.n_tries == MAX_TRIES:
            self.tally.n_refused += 1
            del self._tracks[job.number]
            return
        track.n_tries += 1
        self.at(self.now_s + RETRY_S, lambda: self._send(job))

    def _begin_step(self, name: int) -> None:
        placed = self._replicas.get(name)
        if placed is None or placed.step is not None:
            return
        placed.step = placed.replica.begin_step(self.now_s)
        if placed.step is not None:
            machine = self._machines[placed.machine]
            machine.begin(name, placed.core, placed.step.alone_s, placed.step.beside_s, self.now_s)
            self._set_alarm(placed.machine)

    def _set_alarm(self, machine: int) -> None:
        coming = self._machines[machine].next_end(self.now_s)
        self._alarms.pop(machine, None)
        if coming is not None:
            end_s, name = coming
            number = self.at(end_s, lambda: self._ring(machine, name, number))
            self._alarms[machine] = number

    def _ring(self, machine: int, name: object, number: int) -> None:
        if self._alarms.get(machine) != number:
            return  # something else has begun since, and the end moved
        assert isinstance(name, int)
        self._machines[machine].drop(name, self.now_s)
        placed = self._replicas[name]
        step, placed.step = placed.step, None
        assert step is not None
        for sent in placed.replica.end_step(step, self.now_s):
            self._count_token(sent)
        self._begin_step(name)
        if placed.step is None:
            self._set_alarm(machine)
            self._end_if_done(name)

    def _count_token(self, sent: Sent) -> None:
        tally, track = self.tally, self._tracks[sent.job.number]
        tally.n_tokens += 1
        tally.end_s = max(tally.end_s, sent.at_s)
        if sent.is_first:
            tally.first_s.append(sent.at_s - sent.job.arrival_s)
        else:
            tally.gaps.add(sent.at_s - track.last_s)
        track.last_s = sent.at_s
        if sent.is_last:
            tally.n_finished += 1
            tally.n_prompt += len(sent.job.token_ids)
            tally.n_cached += sent.n_cached
            del self._tracks[sent.job.number]

    def _end_if_done(self, name: int) -> None:
        placed = self._replicas[name]
        if placed.is_leaving and not placed.replica.open:
            self._end(name)

    def _end(self, name: int) -> None:
        placed = self._replicas.pop(name)
        self.tally.replica_s += self.now_s - placed.born_s
        self._router.forget(name)
        self._machines[placed.machine].drop(name, self.now_s)
        self._set_alarm(placed.machine)
