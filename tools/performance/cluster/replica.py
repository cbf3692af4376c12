"""A replica without arithmetic: the engine's scheduler, KV blocks and pace decide, a table says what a step takes."""

from __future__ import annotations

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
    """

    request_s: float = 0.0
    token_s: float = 0.0
    client_s: float = 0.0
    token_bytes: float = 0.0


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
    """A token that has left a replica.

    Attributes:
        job: whose answer it belongs to.
        at_s: when it left.
        is_first: whether it is the answer's first.
        is_last: whether it is the last.
        n_cached: tokens of the prompt that were found in the cache.
    """

    job: Job
    at_s: float
    is_first: bool
    is_last: bool
    n_cached: int


class SimulatedReplica:
    """One `llorch serve`: what its compute thread and its HTTP side do, step after step.

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
        self._pace = Pace(settings.batch_size, equal=times.positions_like_a_row)
        self._inbox: deque[Job] = deque()
        self._owed_s = 0.0  # processor time of the HTTP side since the last step

    def offer(self, job: Job) -> bool:
        """Take a job in; False if too many wait: the real server answers 503 then."""
        self._owed_s += self._http.request_s
        if len(self.open) >= self._settings.parallel + self._settings.max_waiting:
            return False
        self.open[job.number] = job
        self._inbox.append(job)
        return True

    def begin_step(self, now_s: float) -> Step | None:
        """Decide what the next step computes; None if there is nothing to do."""
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
        load, times, owed_s = Load.of(chunks), self._times, self._owed_s
        self._owed_s = 0.0
        forward_s, outside_s = times.seconds(load, times.alone)
        alone_s = forward_s + outside_s + owed_s
        beside_s = sum(times.seconds(load, times.beside)) + owed_s
        return Step(chunks, now_s, forward_s / alone_s, alone_s, beside_s)

    def end_step(self, step: Step, now_s: float) -> list[Sent]:
        """Count `step` as computed at `now_s`, and send its tokens."""
        self.n_steps += 1
        load = Load.of(step.chunks)
        prompts = [chunk.sequence for chunk in step.chunks if chunk.sequence.n_pending > 1]
        n_before = prompts[0].n_computed if prompts else 0
        seconds = step.forward * (now_s - step.begun_s)
        self._pace.record(load.n_decode, load.n_prompt, seconds, n_before=n_before)
        sent: list[Sent] = []
        for sequence, n_tokens in ((chunk.sequence, chunk.n_tokens) for chunk in step.chunks):
            sequence.n_computed += n_tokens
            if sequence.n_pending:
                continue
            job = self.open[int(sequence.request.job_id)]
            is_first = not sequence.n_generated
            sequence.append(job.answer_ids[sequence.n_generated], now_s)
            is_last = len(sequence.token_ids) >= sequence.n_max
            at_s = now_s + self._http.token_s * (len(sent) + 1)
            sent.append(Sent(job, at_s, is_first, is_last, sequence.n_cached))
            if is_last:
                self._scheduler.remove(sequence)
                del self.open[job.number]
        self._owed_s += len(sent) * (self._http.token_s + self._http.client_s)
        return sent

    def _sequence(self, job: Job, now_s: float) -> Sequence:
        n_max = min(len(job.token_ids) + len(job.answer_ids), self._settings.ctx_size)
        request = Request(str(job.number), job.token_ids, _GREEDY, len(job.answer_ids), ignore_eos=True)
        nothing = cast(
            Any, None
        )  # neither scheduler nor blocks look at what chooses tokens and makes text of them
        return Sequence(request, seed=0, sampler=nothing, text_stream=nothing, n_max=n_max, submitted_s=now_s)
