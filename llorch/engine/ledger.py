"""Which requests are open, and the stage of the service: one lock guards both.

So a request is either refused, or it is in the ledger and gets a last event, even if the compute thread dies.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llorch.engine.events import EndEvent, ErrorEvent, Event, LastEvent, StepEvent
from llorch.engine.request import Request, duplicate_job
from llorch.errors import EngineStoppedError, QueueFullError

logger = logging.getLogger(__name__)

Stage: TypeAlias = Literal["loading", "compiling", "ready", "stopping", "stopped", "failed", "model_changed"]

BROKEN: tuple[Stage, ...] = ("failed", "model_changed")
"""Stages that nothing follows: only a new process takes requests again."""

MAX_RETRY_AFTER_S = 60


@dataclass(slots=True, eq=False)
class Submission:
    """An accepted request: its queue of events and the loop that reads it.

    Attributes:
        job_id: name of the generation.
        submitted_s: when it was accepted (clock of `time.monotonic`).
        loop: the event loop that reads its events.
        events: they arrive here; the last is an `EndEvent` or an `ErrorEvent`.
        request: what is computed, once the prompt is tokenised.
        is_cancelled: whether it shall end, by request or because its client left.
        owner: whose it is; empty where there are no API keys.
    """

    job_id: str
    submitted_s: float
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event]
    request: Request | None = None
    is_cancelled: bool = False
    owner: str = ""

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt; 0 until they are known."""
        return 0 if self.request is None else len(self.request.token_ids)


class Ledger:
    """Open requests by name, and the stage. Any thread may call it.

    Attributes:
        n_slots: sequences that run side by side.
        max_waiting: requests of one owner that may be open beyond those; so none can keep the others out.
    """

    def __init__(self, n_slots: int, max_waiting: int) -> None:
        self.n_slots = n_slots
        self.max_waiting = max_waiting
        self._stage: Stage = "loading"
        self._reason: str | None = None
        self._open: dict[str, Submission] = {}
        self._lock = threading.Lock()
        self._busy_s = 1.0  # running mean of the time one request holds its slot

    @property
    def stage(self) -> Stage:
        """The stage of the service."""
        return self._stage

    @property
    def reason(self) -> str | None:
        """Why requests will not be taken any more, for the people who send them; None before that."""
        return self._reason

    @property
    def n_open(self) -> int:
        """Requests that have not had their last event."""
        return len(self._open)

    def advance(self, stage: Stage) -> bool:
        """Go on to `stage`; once the service is stopping, nothing happens and the answer is False."""
        with self._lock:
            if self._stage in ("stopping", "stopped", *BROKEN):
                return False
            self._stage = stage
            return True

    def reserve(self, job_id: str, owner: str = "") -> Submission:
        """A place for a request of the running event loop.

        Args:
            job_id: name of the generation.
            owner: whose request it is.

        Raises:
            EngineStoppedError: the stage is not ``"ready"``.
            RequestError: the name is taken.
            QueueFullError: there is no place.
        """
        with self._lock:
            if self._stage != "ready":
                raise EngineStoppedError(f"no requests are taken now ({self._stage})")
            if job_id in self._open:
                raise duplicate_job()
            n_open = sum(submission.owner == owner for submission in self._open.values())
            n_waiting = max(n_open - self.n_slots, 0)
            if n_open >= self.n_slots + self.max_waiting:
                retry_after_s = math.ceil(self._busy_s * (n_waiting + 1) / self.n_slots)
                raise QueueFullError(n_waiting, min(max(retry_after_s, 1), MAX_RETRY_AFTER_S))
            loop = asyncio.get_running_loop()
            submission = Submission(job_id, time.monotonic(), loop, asyncio.Queue(), owner=owner)
            self._open[job_id] = submission
            return submission

    def release(self, submission: Submission) -> None:
        """Free a place reserved for a request that turned out to be invalid."""
        with self._lock:
            if self.holds(submission):
                del self._open[submission.job_id]

    def find(self, job_id: str) -> Submission | None:
        """The open request of this name. Like `n_open` and `holds`, one look-up without the lock."""
        return self._open.get(job_id)

    def holds(self, submission: Submission) -> bool:
        """Whether `submission` is open: it, and not a later one of the same name."""
        return self._open.get(submission.job_id) is submission

    def deliver(self, events: list[StepEvent]) -> list[str]:
        """Hand the events of a step to their event loops, in one call for each loop.

        Returns:
            Names of requests whose event loop is closed, so that no client can read their events.
        """
        batches: defaultdict[asyncio.AbstractEventLoop, list[tuple[Submission, Event]]] = defaultdict(list)
        with self._lock:
            for step_event in events:
                submission, event = self._open.get(step_event.job_id), step_event.event
                if submission is None:
                    continue
                batches[submission.loop].append((submission, event))
                if isinstance(event, LastEvent):
                    del self._open[step_event.job_id]
                if isinstance(event, EndEvent):
                    self._busy_s += 0.1 * (event.timings.prompt_s + event.timings.decode_s - self._busy_s)
        unread = []
        for loop, batch in batches.items():
            if not _post(loop, batch):
                unread += [submission.job_id for submission, _ in batch]
        return unread

    def close(self, stage: Stage, last: ErrorEvent) -> None:
        """Accept no more requests, and give every open one its last event."""
        with self._lock:
            if self._stage not in BROKEN:
                # The reason comes first: readers take no lock, and ask for the stage before it.
                self._reason = last.message
                self._stage = stage
            left = list(self._open.values())
            self._open.clear()
        for submission in left:
            _post(submission.loop, [(submission, last)])


def _post(loop: asyncio.AbstractEventLoop, batch: list[tuple[Submission, Event]]) -> bool:
    """Put events into their queues on `loop`'s own thread; False if it is closed."""
    try:
        loop.call_soon_threadsafe(_put_all, batch)
    except RuntimeError:
        return False
    except Exception as error:
        logger.error("an event loop takes no events", exc_info=error)
        return False
    return True


def _put_all(batch: list[tuple[Submission, Event]]) -> None:
    for submission, event in batch:
        submission.events.put_nowait(event)
