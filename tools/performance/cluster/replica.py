"""A replica without arithmetic: the engine's scheduler, KV blocks and pace decide, a table says what a step takes."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from llorch.engine.block_pool import BlockPool
from llorch.engine.kv_blocks import KVBlocks
from llorch.engine.pace import Pace
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.engine.sequence import Sequence
from llorch.kernels.layout import KV_BLOCK_SIZE
from llorch.model.row_cost import RowCost
from tools.performance.cluster.step_times import Load, StepTimes
from tools.performance.cluster.workload import Job

_GREEDY = SamplingParams(temperature=0)
_MOMENT_S = 1e-7
"""A request taken in after a step comes later than the step's tokens: the engine's rule for bursts looks at that."""


@dataclass(frozen=True, slots=True)
class HTTPCosts:
    """What the HTTP side takes: processor seconds, and bytes.

    Attributes:
        request_s: to take a request.
        token_s: to send an event.
        client_s: what the client of a check takes for an event on the same cores.
        token_bytes: of an event on the wire.
        wake_s: what the event loop takes whenever events wake it, however many have come together.
        client_wake_s: the same of the client.
        client_request_s: what the client takes to send a request.
        step_s: what a step takes beyond the table of step times: to hand over events, and with caches that the event
            loop has used meanwhile.
        enter_s: what a request takes of the thread that computes, beyond its rows.
    """

    request_s: float = 0.0
    token_s: float = 0.0
    client_s: float = 0.0
    token_bytes: float = 0.0
    wake_s: float = 0.0
    client_wake_s: float = 0.0
    client_request_s: float = 0.0
    step_s: float = 0.0
    enter_s: float = 0.0

    def without_client(self) -> HTTPCosts:
        """The same where clients compute elsewhere."""
        return dataclasses.replace(self, client_s=0.0, client_wake_s=0.0, client_request_s=0.0)


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """As the settings of `llorch serve` of those names."""

    parallel: int = 8
    ctx_size: int = 2048
    batch_size: int = 512
    max_waiting: int = 64
    prefix_cache: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """A step under way.

    Attributes:
        chunks: what it computes.
        begun_s: when it began.
        forward: share of the forward pass in it.
        alone_s: its processor time while the machine's other cores are idle.
        beside_s: the same while they compute, too.
    """

    chunks: list[Chunk]
    begun_s: float
    forward: float
    alone_s: float
    beside_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A token of an answer.

    Attributes:
        job: whose answer it belongs to.
        is_first: whether it is the answer's first.
        is_last: whether it is the last.
        n_cached: tokens of the prompt that were found in the cache.
    """

    job: Job
    is_first: bool
    is_last: bool
    n_cached: int


class SimulatedReplica:
    """One `llorch serve`: what its compute thread does, step after step, and what its event loop does beside.

    The order of things within a step is that of `Session.pump` and `Engine.step`.

    Attributes:
        open: jobs that are not finished, by number.
        n_steps: steps so far.
    """

    def __init__(
        self,
        times: StepTimes,
        settings: ReplicaSettings,
        http: HTTPCosts,
        on_step: Callable[[list[Chunk]], None] | None = None,
    ) -> None:
        """Set up.

        Args:
            times: what steps take.
            settings: as of `llorch serve`.
            http: what requests and events take.
            on_step: sees what every step computes.
        """
        n_blocks = -(-settings.ctx_size // KV_BLOCK_SIZE)
        pool = BlockPool(settings.parallel * n_blocks, KV_BLOCK_SIZE)
        blocks = KVBlocks(pool, settings.parallel, n_blocks, keeps_prefixes=settings.prefix_cache)
        self.open: dict[int, Job] = {}
        self.n_steps = 0
        self._times = times
        self._settings = settings
        self._http = http
        self._on_step = on_step
        self._scheduler = Scheduler(blocks, settings.parallel)
        self._pace = Pace(settings.batch_size, cost=RowCost(times.positions_like_a_row))
        self._requests: list[Job] = []  # that the event loop has not read yet
        self._n_refused = 0
        self._computed: list[Sent] = []  # tokens that it has not sent yet
        self._under_way: tuple[list[Job], list[Sent]] = [], []
        self._inbox: deque[Job] = deque()

    def offer(self, job: Job) -> bool:
        """Give a job a place; False if too many wait: the real server answers 503 then."""
        if len(self.open) >= self._settings.parallel + self._settings.max_waiting:
            self._n_refused += 1
            return False
        self.open[job.number] = job
        return True

    def arrive(self, job: Job) -> None:
        """The request of a job with a place is here."""
        self._requests.append(job)

    def begin_loop(self) -> float | None:
        """Let the event loop see all that has come; what it takes in processor time, or None if nothing has come."""
        n_requests, n_tokens, http = len(self._requests) + self._n_refused, len(self._computed), self._http
        if not n_requests + n_tokens:
            return None
        self._under_way = self._requests, self._computed
        self._requests, self._computed, self._n_refused = [], [], 0
        return n_requests * http.request_s + (http.wake_s + n_tokens * http.token_s if n_tokens else 0.0)

    def end_loop(self) -> list[Sent]:
        """Hand the requests over to the engine, and send the tokens."""
        requests, tokens = self._under_way
        self._under_way = [], []
        self._inbox += requests
        for sent in tokens:
            if sent.is_last:
                del self.open[sent.job.number]
        return tokens

    def begin_step(self, now_s: float) -> Step | None:
        """Decide what the next step computes; None if there is nothing to do."""
        entered_s = len(self._inbox) * self._http.enter_s
        while self._inbox:
            self._scheduler.add(self._sequence(self._inbox.popleft(), now_s + _MOMENT_S))
        scheduler = self._scheduler
        if scheduler.waiting:
            scheduler.admit()
        n_before = 0 if scheduler.reading is None else scheduler.reading.n_computed
        n_rows = self._pace.n_rows(scheduler.n_decoding, n_burst=scheduler.n_burst, n_before=n_before)
        chunks = scheduler.schedule(n_rows)
        if not chunks:
            return None
        if self._on_step is not None:
            self._on_step(chunks)
        load, times, more_s = Load.of(chunks), self._times, self._http.step_s + entered_s
        forward_s, outside_s = times.seconds(load, times.alone)
        alone_s = forward_s + outside_s + more_s
        beside_s = sum(times.seconds(load, times.beside)) + more_s
        return Step(chunks, now_s, forward_s / alone_s, alone_s, beside_s)

    def end_step(self, step: Step, now_s: float) -> None:
        """Count `step` as computed at `now_s`; its tokens are for the event loop."""
        self.n_steps += 1
        load = Load.of(step.chunks)
        seconds = step.forward * (now_s - step.begun_s)
        self._pace.record(load.n_decode, load.n_prompt, seconds, n_looks=load.prompt_positions)
        for sequence, n_tokens in ((chunk.sequence, chunk.n_tokens) for chunk in step.chunks):
            sequence.n_computed += n_tokens
            if sequence.n_pending:
                continue
            job = self.open[int(sequence.request.job_id)]
            is_first = not sequence.n_generated
            sequence.append(job.answer_ids[sequence.n_generated], now_s)
            is_last = len(sequence.token_ids) >= sequence.n_max
            self._computed.append(Sent(job, is_first, is_last, sequence.n_cached))
            if is_last:
                self._scheduler.remove(sequence)

    def _sequence(self, job: Job, now_s: float) -> Sequence:
        n_max = min(len(job.token_ids) + len(job.answer_ids), self._settings.ctx_size)
        request = Request(str(job.number), job.token_ids, _GREEDY, len(job.answer_ids), ignore_eos=True)
        nothing = cast(
            Any, None
        )  # neither scheduler nor blocks look at what chooses tokens and makes text of them
        return Sequence(request, seed=0, sampler=nothing, text_stream=nothing, n_max=n_max, submitted_s=now_s)
