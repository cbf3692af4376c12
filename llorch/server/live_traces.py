"""The trace of a serving engine: at most one at a time, begun and ended between two of its steps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import suppress

from llorch.engine.engine import Engine
from llorch.engine.events import LastEvent
from llorch.engine.ledger import Submission
from llorch.engine.service import EngineService
from llorch.errors import FieldError
from llorch.server.errors import HTTPRefusalError, NotReadyError
from llorch.trace.conversion import messages_of
from llorch.trace.live_recorder import LiveRecorder, TraceLimits, ended_request, open_request
from llorch.trace.records import RequestRecord

ALIVE = ("ready", "stopping")
"""Stages at which the engine acts on what it is told."""

POLL_S = 0.1
"""How often a wait for the compute thread looks whether it is still there."""


class LiveTrace:
    """A recording of `service`, under way or ended. Made on its event loop; methods are for there, too.

    Args:
        service: is ready.
        limits: how much is recorded.

    Attributes:
        trace_id: names it.
        limits: how much is recorded.
        requests: generations that were open, once the recording has ended.
    """

    def __init__(self, service: EngineService, limits: TraceLimits) -> None:
        loaded, session = service.loaded, service.session
        assert loaded is not None
        assert session is not None
        self.trace_id = uuid.uuid4().hex
        self.limits = limits
        self.requests: list[RequestRecord] = []
        self._service = service
        self._loaded = loaded
        self._session = session
        self._recorder = LiveRecorder(loaded.llama, limits, self._end)
        self._loop = asyncio.get_running_loop()
        self._has_begun, self._has_ended = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is recorded any more."""
        return self._has_ended.is_set()

    async def begin(self) -> None:
        """Record from the next step on; an idle engine begins at once."""
        self._session.between_steps(self._begin_watch)
        try:
            await self._wait(self._has_begun)
        finally:  # also where nobody waits any more
            self._timer = self._loop.call_later(self.limits.max_seconds, self._end)

    async def end(self) -> None:
        """Record nothing from the next step on."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.has_ended:
            self._end()
        await self._wait(self._has_ended)
        self._recorder.stop()

    def note_end(self, submission: Submission, last: LastEvent) -> None:
        """A generation has ended; called on the compute thread, mostly."""
        if not self._recorder.has_stopped:
            self.requests.append(ended_request(submission, last))

    def messages(self) -> Iterator[bytes]:
        """The recording, for the process that makes the file."""
        settings = self._service.settings
        name = settings.alias or self._loaded.name
        return messages_of(self._recorder, self.requests, self._loaded, settings.kv_type, name=name)

    def _end(self) -> None:
        self._session.between_steps(self._end_watch)

    def _begin_watch(self, engine: Engine) -> None:
        """On the compute thread; there is one watcher at a time."""
        if engine.watcher is None:
            engine.watcher = self._recorder
        self._tell(self._has_begun)

    def _end_watch(self, engine: Engine) -> None:
        """On the compute thread; nobody takes off another's watcher."""
        if engine.watcher is self._recorder:
            engine.watcher = None
        if not self._recorder.has_stopped:
            self._recorder.stop()
            snapshot = self._service.snapshot()
            running = {slot.request.job_id for slot in snapshot.slots} if snapshot is not None else set()
            self.requests += [open_request(one, running) for one in self._service.ledger.open_requests()]
        self._tell(self._has_ended)

    def _tell(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(event.set)

    async def _wait(self, event: asyncio.Event) -> None:
        """Wait until `event` is set, or the compute thread will do nothing more."""
        while not event.is_set() and self._service.stage in ALIVE:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), POLL_S)


class LiveTraces:
    """Begins and ends traces of `service`; for its event loop.

    A trace that has reached its limits is kept until it is asked for, or another one begins.
    """

    def __init__(self, service: EngineService) -> None:
        self._service = service
        self._current: LiveTrace | None = None
        self._is_ending = False
        service.ledger.on_end.append(self._note_end)

    async def start(self, limits: TraceLimits) -> LiveTrace:
        """Begin a trace.

        Raises:
            NotReadyError: there is no engine yet, or none any more.
            HTTPRefusalError: a trace is being taken.
        """
        if self._service.stage != "ready":
            raise NotReadyError(self._service.stage, self._service.reason)
        if self._current is not None and (self._is_ending or not self._current.has_ended):
            words = "a trace is being taken; POST /trace/stop ends it"
            raise _conflict("trace", "one trace at a time", words)
        self._current = trace = LiveTrace(self._service, limits)
        await trace.begin()
        if self._service.stage not in ALIVE:
            self._current = None
            raise NotReadyError(self._service.stage, self._service.reason)
        return trace

    async def stop(self, trace_id: str | None) -> LiveTrace:
        """End the trace and hand it out, once.

        Args:
            trace_id: of the one that is meant; None: whichever there is.

        Raises:
            HTTPRefusalError: there is none, or another one.
        """
        trace = self._current
        if trace is None or self._is_ending:
            words = "no trace is being taken; POST /trace/start begins one"
            raise _conflict("trace", "a trace that was begun", words)
        if trace_id is not None and trace_id != trace.trace_id:
            words = "trace_id: that trace is not there any more; another one is being taken"
            raise _conflict("trace_id", "the trace_id that /trace/start answered", words)
        self._is_ending = True
        try:
            await trace.end()
        finally:
            self._current, self._is_ending = None, False
        return trace

    def _note_end(self, submission: Submission, last: LastEvent) -> None:
        trace = self._current
        if trace is not None:
            trace.note_end(submission, last)


def _conflict(field: str, rule: str, message: str) -> HTTPRefusalError:
    return HTTPRefusalError(409, FieldError(field, rule, message))
