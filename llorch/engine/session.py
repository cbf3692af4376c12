"""Requests in, events out: how any number of callers share one `Engine`.

A `Session` computes only while it is pumped. There are two drivers: `CallerDriver`, where the caller who waits for an
event computes a step for all, and `ComputeThread`, a thread that does nothing else.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias

from llorch.engine.engine import Engine
from llorch.engine.events import ErrorEvent, Event, LastEvent, StepEvent
from llorch.engine.request import Request, duplicate_job
from llorch.engine.snapshot import EngineSnapshot
from llorch.engine.tally import StepTally
from llorch.errors import ConstraintError, EngineStoppedError, LlorchError, NumericalError, RequestError
from llorch.machine.process import OwningProcess

logger = logging.getLogger(__name__)

Deliver: TypeAlias = Callable[[list[StepEvent]], Iterable[str]]
"""Takes the events of a step; returns the names of generations that no caller can read any more."""


_Message: TypeAlias = Callable[[Engine], list[StepEvent] | None]
"""What the thread that pumps shall do with the engine; gives the events of a request that has failed at once.

A message does not know its session: one that nobody reads any more would keep a dropped model until the garbage
collector runs.
"""


class Session:
    """An engine behind an inbox. Any thread may call it, except for `pump`: one thread at a time."""

    def __init__(self, engine: Engine, deliver: Deliver) -> None:
        """Set up.

        Args:
            engine: used by `pump` alone from now on, but for `check` and `prepare`.
            deliver: called by `pump`.
        """
        self._engine = engine
        self._deliver = deliver
        self._inbox: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()  # None: stop

    @property
    def n_ctx(self) -> int:
        """Most tokens of one sequence, prompt and answer together."""
        return self._engine.n_ctx

    def check(self, request: Request) -> None:
        """Refuse a request that cannot be generated, with the errors of `Engine.check`."""
        self._engine.check(request)

    def prepare(self, request: Request) -> None:
        """Find what its sampler needs of the vocabulary, so that the thread that computes need not; may take 0.2 s."""
        self._engine.prepare(request)

    def snapshot(self) -> EngineSnapshot:
        """What the engine is doing."""
        return self._engine.snapshot()

    @property
    def tally(self) -> StepTally:
        """What the steps of the engine have computed."""
        return self._engine.tally

    def add(self, request: Request) -> None:
        """Begin a generation; if it cannot begin after all, its only event is an `ErrorEvent`."""
        self._inbox.put(functools.partial(_begin, request))

    def abort(self, request: Request) -> None:
        """End a generation within one step, if it is unfinished. Safe in a destructor."""
        self._inbox.put(functools.partial(_end, request, is_late=False))

    def time_out(self, request: Request) -> None:
        """End a generation whose deadline has passed within one step, if it is unfinished."""
        self._inbox.put(functools.partial(_end, request, is_late=True))

    def between_steps(self, work: Callable[[Engine], None]) -> None:
        """Have `work` called with the engine, on the thread that pumps it; it must be quick and must not raise."""
        self._inbox.put(work)

    def stop(self) -> None:
        """Abort every generation; the next `pump` is the last."""
        self._inbox.put(None)

    def close(self) -> None:
        """Let go of what the engine holds beside the model; not while it is pumped, nor pumped again."""
        self._engine.close()

    def pump(self, *, wait: bool) -> bool:
        """Do what the inbox says, compute one step, deliver its events.

        Args:
            wait: block until the inbox has something, if there is nothing to compute.

        Returns:
            False after `stop`: nothing is unfinished any more.
        """
        events, is_going_on = self._drain_inbox(wait)
        for job_id in self._deliver(events + self._engine.step()):
            self._engine.abort(job_id)
        return is_going_on

    def _drain_inbox(self, wait: bool) -> tuple[list[StepEvent], bool]:
        """Act on all messages; the events of requests that failed at once, and whether to go on."""
        failures: list[StepEvent] = []
        while True:
            try:
                message = self._inbox.get(block=wait and not (self._engine.has_work or failures))
            except queue.Empty:
                return failures, True
            if message is None:
                self._engine.abort_all()
                return failures, False
            failures += message(self._engine) or ()


def _begin(request: Request, engine: Engine) -> list[StepEvent]:
    """Hand a request to the engine; a failure ends it and no other."""
    try:
        engine.add(request)
    except RequestError as error:
        return [StepEvent(request.job_id, ErrorEvent("invalid_request", str(error), retriable=False))]
    except ConstraintError as error:
        logger.warning("%s: %s", request.job_id, error, exc_info=error.__cause__, extra=request.log_fields)
        return [StepEvent(request.job_id, ErrorEvent("constraint_error", str(error), retriable=False))]
    except Exception as error:
        name = type(error).__name__
        logger.error("a request could not begin: %s", name, exc_info=error, extra=request.log_fields)
        message = "the request could not begin; the log says why"
        return [StepEvent(request.job_id, ErrorEvent("internal_error", message, retriable=False))]
    return []


def _end(request: Request, engine: Engine, *, is_late: bool) -> None:
    """End the generation of a request, if it is unfinished; its name may belong to another one by now."""
    if engine.holds(request):
        end = engine.time_out if is_late else engine.abort
        end(request.job_id)


class CallerDriver:
    """Pumps a session with the threads of its callers: one that waits for an event computes a step for all."""

    def __init__(self, engine: Engine) -> None:
        self._mailboxes: dict[str, deque[Event]] = {}
        # The session must not know the driver: a cycle would keep a dropped model until the garbage collector runs.
        self._session = Session(engine, functools.partial(_deliver, self._mailboxes))
        self._pumping = threading.Lock()
        self._owner = OwningProcess()
        self._is_closed = False

    def events(self, request: Request) -> Generator[Event]:
        """The events of a generation, the last an `EndEvent`; leaving early aborts it.

        The request is checked now; nothing is computed before the first event is asked for.

        Raises:
            RequestError: now, with every fault of the request; or later, if an unfinished one has its name.
            ForkedError: now or later; this process was forked from the one that made the driver.
            NumericalError: later; the model computed NaN.
            EngineStoppedError: later; the driver was closed.
            LlorchError: later; the generation failed otherwise.
        """
        self._owner.check()
        self._session.check(request)
        return self._events(request)

    def close(self) -> None:
        """Compute no more; returns when the step under way is finished. Idempotent; nothing in a forked process."""
        if not self._owner.is_current:
            return  # the thread that held the lock may not have followed the fork
        with self._pumping:
            self._is_closed = True
            self._session.close()

    def _events(self, request: Request) -> Generator[Event]:
        if request.job_id in self._mailboxes:
            raise duplicate_job()
        mailbox = self._mailboxes[request.job_id] = deque()
        event: Event | None = None
        try:
            self._session.add(request)
            while not isinstance(event, LastEvent):
                event = self._next(mailbox)
                if isinstance(event, ErrorEvent):
                    raise _error_of(event)
                yield event
        finally:
            if not isinstance(event, LastEvent):
                self._session.abort(request)

    def _next(self, mailbox: deque[Event]) -> Event:
        self._owner.check()
        while not mailbox:
            with self._pumping:
                if mailbox:  # another caller has computed it meanwhile
                    break
                if self._is_closed:
                    raise EngineStoppedError("the model is closed")
                self._session.pump(wait=False)
        return mailbox.popleft()


def _deliver(mailboxes: dict[str, deque[Event]], events: list[StepEvent]) -> Iterable[str]:
    """Put events into the mailboxes of their generations; names of those that have none."""
    unread = []
    for step_event in events:
        mailbox = mailboxes.get(step_event.job_id)
        if mailbox is None:
            unread.append(step_event.job_id)
            continue
        mailbox.append(step_event.event)
        if isinstance(step_event.event, LastEvent):
            del mailboxes[step_event.job_id]
    return unread


def _error_of(event: ErrorEvent) -> LlorchError:
    return NumericalError(event.message) if event.code == "numerical_error" else LlorchError(event.message)
