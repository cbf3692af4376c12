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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from llorch.engine.events import EndEvent, ErrorEvent, Event, LastEvent, StepEvent
from llorch.engine.mailbox import ChoiceEvent, Mailbox
from llorch.engine.request import Request, duplicate_job
from llorch.engine.tally import GenerationTally, Timeline
from llorch.errors import EngineStoppedError, QueueFullError
from llorch.observe.request_scope import RequestScope, current_scope

logger = logging.getLogger(__name__)

Stage: TypeAlias = Literal["loading", "compiling", "ready", "stopping", "stopped", "failed", "model_changed"]

BROKEN: tuple[Stage, ...] = ("failed", "model_changed")
"""Stages that nothing follows: only a new process takes requests again."""

MAX_RETRY_AFTER_S = 60


@dataclass(slots=True, eq=False)
class Submission:
    """An accepted generation: where its events go, and the loop that reads them.

    Attributes:
        job_id: name of the generation.
        submitted_s: when it was accepted (clock of `time.monotonic`).
        loop: the event loop that reads its events.
        mailbox: of its request; the last of its events is an `EndEvent` or an `ErrorEvent`.
        index: its place among the generations of the request.
        request: what is computed, once the prompt is tokenised.
        is_cancelled: whether it shall end, by request or because its client left.
        is_late: whether its deadline has passed.
        deadline: calls when that happens, if there is one.
        owner: whose it is; empty where there are no API keys.
        scope: the request it was made for, where there is one.
        timeline: when its tokens came.
    """

    job_id: str
    submitted_s: float
    loop: asyncio.AbstractEventLoop
    mailbox: Mailbox
    index: int = 0
    request: Request | None = None
    is_cancelled: bool = False
    is_late: bool = False
    deadline: asyncio.TimerHandle | None = None
    owner: str = ""
    scope: RequestScope | None = field(default_factory=current_scope.get)
    timeline: Timeline = field(init=False)

    def __post_init__(self) -> None:
        self.timeline = Timeline(self.submitted_s)
        if self.scope is not None:
            self.scope.job_ids.append(self.job_id)

    def close(self) -> None:
        """Let go of the deadline; on the event loop's own thread."""
        if self.deadline is not None:
            self.deadline.cancel()

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt; 0 until they are known."""
        return 0 if self.request is None else len(self.request.token_ids)


class Ledger:
    """Open requests by name, and the stage. Any thread may call it.

    Attributes:
        n_slots: sequences that run side by side.
        max_waiting: requests of one owner that may be open beyond those; so none can keep the others out.
        tally: how the generations went.
        on_end: each is called with every generation that has ended, on the thread that delivers; must be quick.
    """

    def __init__(self, n_slots: int, max_waiting: int) -> None:
        self.n_slots = n_slots
        self.max_waiting = max_waiting
        self.tally = GenerationTally()
        self.on_end: list[Callable[[Submission, LastEvent], None]] = []
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

    def reserve(
        self, job_ids: Sequence[str], owner: str = "", *, has_begun: bool = False
    ) -> list[Submission]:
        """Places for all generations of a request of the running event loop, or for none.

        Args:
            job_ids: names of the generations.
            owner: whose request it is.
            has_begun: they go on with a request that has places already: neither a full line nor a service that is
                stopping refuses them.

        Raises:
            EngineStoppedError: the stage is not ``"ready"``, nor ``"stopping"`` for those.
            RequestError: a name is taken.
            QueueFullError: there are not so many places.
        """
        with self._lock:
            if self._stage not in (("ready", "stopping") if has_begun else ("ready",)):
                raise EngineStoppedError(f"no requests are taken now ({self._stage})")
            if len({*job_ids} - self._open.keys()) < len(job_ids):
                raise duplicate_job()
            n_open = sum(submission.owner == owner for submission in self._open.values())
            n_waiting = max(n_open - self.n_slots, 0)
            if n_open + len(job_ids) > self.n_slots + self.max_waiting and not has_begun:
                self.tally.n_queue_full += len(job_ids)
                retry_after_s = math.ceil(self._busy_s * (n_waiting + len(job_ids)) / self.n_slots)
                raise QueueFullError(n_waiting, min(max(retry_after_s, 1), MAX_RETRY_AFTER_S))
            loop = asyncio.get_running_loop()
            now_s = time.monotonic()
            mailbox = Mailbox(loop)
            places = [
                Submission(name, now_s, loop, mailbox, i, owner=owner) for i, name in enumerate(job_ids)
            ]
            self._open |= {place.job_id: place for place in places}
            return places

    def release(self, submission: Submission) -> None:
        """Free a place reserved for a request that turned out to be invalid; on its event loop's thread."""
        submission.close()
        with self._lock:
            if self.holds(submission):
                del self._open[submission.job_id]

    def open_requests(self) -> list[Submission]:
        """Requests that have not had their last event."""
        with self._lock:
            return list(self._open.values())

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
        ended: list[tuple[Submission, LastEvent]] = []
        now_s = time.monotonic()
        with self._lock:
            for step_event in events:
                submission, event = self._open.get(step_event.job_id), step_event.event
                if submission is None:
                    continue
                batches[submission.loop].append((submission, event))
                self.tally.add(submission.timeline, event, now_s)
                if isinstance(event, LastEvent):
                    del self._open[step_event.job_id]
                    ended.append((submission, event))
                if isinstance(event, EndEvent):
                    self._busy_s += 0.1 * (event.timings.prompt_s + event.timings.decode_s - self._busy_s)
        self._tell(ended)
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
                self.tally.add(submission.timeline, last, time.monotonic())
        self._tell([(submission, last) for submission in left])
        for submission in left:
            _post(submission.loop, [(submission, last)])

    def _tell(self, ended: list[tuple[Submission, LastEvent]]) -> None:
        for submission, last in ended:
            for tell in self.on_end:
                tell(submission, last)


def _post(loop: asyncio.AbstractEventLoop, batch: list[tuple[Submission, Event]]) -> bool:
    """Put events into their mailboxes on `loop`'s own thread; False if it is closed."""
    try:
        loop.call_soon_threadsafe(_put_all, batch)
    except RuntimeError:
        return False
    except Exception as error:
        logger.error("an event loop takes no events", exc_info=error)
        return False
    return True


def _put_all(batch: list[tuple[Submission, Event]]) -> None:
    together: defaultdict[Mailbox, list[ChoiceEvent]] = defaultdict(list)
    for submission, event in batch:
        together[submission.mailbox].append((submission.index, event))
        if isinstance(event, LastEvent):
            submission.close()
    for mailbox, events in together.items():
        mailbox.put(events)
