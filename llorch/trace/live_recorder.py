"""Recording an engine that serves: within limits, together with the requests that it serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from llorch.engine.block_pool import BlockPool
from llorch.engine.events import EndEvent, LastEvent
from llorch.engine.ledger import Submission
from llorch.engine.scheduler import Scheduler
from llorch.engine.step_watch import PassTimes
from llorch.model.llama import Llama
from llorch.trace.recorder import Recorder
from llorch.trace.records import RequestRecord


@dataclass(frozen=True, slots=True)
class TraceLimits:
    """How much is recorded.

    Attributes:
        max_seconds: for so long at most.
        max_steps: so many steps at most.
        has_operations: whether the operations of every step are, too.
    """

    max_seconds: float
    max_steps: int
    has_operations: bool


class LiveRecorder(Recorder):
    """A recorder that says when it is full.

    Args:
        llama: the model of the engine that is watched.
        limits: how much is recorded.
        on_full: called once, on the thread that computes, after the last step that is kept; must be quick.
    """

    def __init__(self, llama: Llama, limits: TraceLimits, on_full: Callable[[], None]) -> None:
        super().__init__(llama, keeps_stamps=limits.has_operations)
        self._n_left = (
            min(limits.max_steps, self.stamps.n_room) if limits.has_operations else limits.max_steps
        )
        self._on_full = on_full

    def end_pass(self, times: PassTimes, scheduler: Scheduler, pool: BlockPool) -> None:
        """Keep the pass, unless the recorder is full."""
        if self._n_left:
            super().end_pass(times, scheduler, pool)
            self._n_left -= 1
            if not self._n_left:
                self._on_full()


def ended_request(submission: Submission, last: LastEvent) -> RequestRecord:
    """A generation that ends now."""
    outcome: str
    if isinstance(last, EndEvent):
        outcome = "timeout" if last.timed_out else last.finish_reason
        n_generated, was_admitted = last.usage.completion_tokens, last.timings.prompt_s > 0
    else:
        outcome, n_generated, was_admitted = last.code, submission.timeline.n_tokens, False
    return _record(submission, time.perf_counter_ns(), outcome, n_generated, was_admitted)


def open_request(submission: Submission, running: Collection[str]) -> RequestRecord:
    """A generation that goes on; `running` are the names of those that have a place."""
    return _record(submission, None, "open", submission.timeline.n_tokens, submission.job_id in running)


def _record(
    submission: Submission, ended_ns: int | None, outcome: str, n_generated: int, was_admitted: bool
) -> RequestRecord:
    between_clocks_ns = time.perf_counter_ns() - time.monotonic_ns()
    return RequestRecord(
        job_id=submission.job_id,
        submitted_ns=round(submission.submitted_s * 1e9) + between_clocks_ns,
        ended_ns=ended_ns,
        outcome=outcome,
        n_prompt=submission.n_prompt,
        n_generated=n_generated,
        was_admitted=was_admitted or submission.timeline.n_tokens > 0,
    )
