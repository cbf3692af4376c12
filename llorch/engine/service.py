"""The one compute thread, and the door to it for an event loop.

Requests go in through a thread-safe inbox, events come out through `loop.call_soon_threadsafe`, one call per
step; the compute thread touches nothing else of asyncio. While there is nothing to do it is blocked on the
inbox. Whatever happens to it, every open request gets a last event.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import queue
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from llorch.engine.engine import Engine
from llorch.engine.events import ErrorEvent, Event, LastEvent
from llorch.engine.ledger import Ledger, Stage, Submission
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request, check_prompt, encode_prompt
from llorch.errors import (
    EngineStoppedError,
    InputError,
    LlorchError,
)
from llorch.open_model import OpenModel, open_model
from llorch.progress import Progress
from llorch.settings import Settings

logger = logging.getLogger(__name__)

QUICK_PROMPT_CHARS = 1000
"""Longer prompts are tokenised outside the event loop."""
JOIN_S = 30.0
"""How long `stop` waits for the step that is being computed."""

STOPPED = ErrorEvent("engine_stopped", "the server is shutting down", retriable=True)
FAILED = ErrorEvent("engine_failed", "the engine failed and takes no more requests", retriable=True)


@dataclass(frozen=True, slots=True)
class _Add:
    submission: Submission
    request: Request


@dataclass(frozen=True, slots=True)
class _Abort:
    submission: Submission  # its name may belong to another request by now


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


class _LoadingStoppedError(LlorchError):
    """`stop` was called before the model was loaded."""


class EngineService:
    """Generations for an event loop, computed on a thread of their own.

    Attributes:
        settings: how to run.
        loaded: the model, once it is ready.
        failure: why the stage is ``"failed"``.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        """Nothing is loaded before `start`.

        Args:
            settings: how to run.
            progress: called on the compute thread while the model is compiled and loaded.
        """
        self.settings = settings
        self.loaded: OpenModel | None = None
        self.failure: BaseException | None = None
        self._engine: Engine | None = None
        self._report = progress
        self._inbox: queue.SimpleQueue[_Add | _Abort | _Stop] = queue.SimpleQueue()
        self._ledger = Ledger(settings.parallel, settings.max_waiting)
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llorch-compute", daemon=True)

    # For any thread

    @property
    def stage(self) -> Stage:
        """What the service is doing; requests are taken while it is ``"ready"``."""
        return self._ledger.stage

    @property
    def n_open(self) -> int:
        """Requests that have not had their last event."""
        return self._ledger.n_open

    def start(self) -> None:
        """Begin to compile and load on the compute thread; returns at once."""
        self._thread.start()

    def wait_until_ready(self, timeout_s: float | None = None) -> None:
        """Block until requests are taken.

        Raises:
            LlorchError: whatever kept the model from being loaded (`InputError` for a bad file).
            EngineStoppedError: the service was stopped meanwhile, or is not ready in time.
        """
        if not self._settled.wait(timeout_s):
            raise EngineStoppedError(f"the model is not ready after {timeout_s:g} s ({self.stage})")
        if self.failure is not None:
            raise self.failure
        if self.stage != "ready":
            raise EngineStoppedError("the engine was stopped")

    def cancel(self, job_id: str) -> bool:
        """End a generation within one step; its `end` event says ``"abort"``.

        Returns:
            Whether there was an unfinished one of that name.
        """
        submission = self._ledger.find(job_id)
        if submission is None:
            return False
        self.release(submission)
        return True

    def release(self, submission: Submission) -> None:
        """Nobody reads the events of `submission` any more: end it if it is not finished. Idempotent."""
        if self._ledger.holds(submission):
            submission.is_cancelled = True
            self._inbox.put(_Abort(submission))

    # For the event loop

    async def submit(
        self,
        *,
        prompt: str | None = None,
        token_ids: Iterable[int] | None = None,
        params: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Iterable[str] = (),
        ignore_eos: bool = False,
        job_id: str | None = None,
        parse_special: bool = False,
    ) -> Submission:
        """Take a request, or refuse it at once; places are counted before anything is tokenised.

        Args:
            prompt: text; or give `token_ids`.
            token_ids: the prompt as it shall be computed, BOS included.
            params: how tokens are chosen; default: the settings'.
            max_tokens: default: the settings' `n_predict`.
            stop: strings that end the text.
            ignore_eos: never choose an end-of-generation token.
            job_id: default: a new one.
            parse_special: recognise control tokens in `prompt`; not for text from strangers.

        Raises:
            EngineStoppedError: the engine does not take requests (yet, or any more).
            QueueFullError: too many are waiting.
            RequestError: a field is wrong, with every fault; `ContextLengthError` if the prompt is too long.
        """
        submission = self._ledger.reserve(job_id if job_id is not None else uuid.uuid4().hex)
        try:
            request = Request(
                job_id=submission.job_id,
                token_ids=await self._prompt_ids(prompt, token_ids, parse_special),
                params=params or SamplingParams.from_settings(self.settings),
                max_tokens=self.settings.n_predict if max_tokens is None else max_tokens,
                stop=tuple(stop),
                ignore_eos=ignore_eos,
            )
            assert self._engine is not None  # it is ready
            self._engine.check(request)
            submission.n_prompt = len(request.token_ids)
        except BaseException:
            self._ledger.release(submission)
            raise
        self._inbox.put(_Add(submission, request))
        return submission

    async def stream(self, submission: Submission) -> AsyncGenerator[Event, None]:
        """The events of a request, the last an `EndEvent` or `ErrorEvent`; leaving early ends the request."""
        try:
            while True:
                event = await submission.events.get()
                yield event
                if isinstance(event, LastEvent):
                    return
        finally:
            self.release(submission)

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new requests, let the running ones finish for `grace_s`, abort the rest, end the thread.

        Args:
            grace_s: default: the settings' `shutdown_grace_s`.
        """
        self._ledger.advance("stopping")
        deadline_s = time.monotonic() + (self.settings.shutdown_grace_s if grace_s is None else grace_s)
        try:
            while self.n_open and time.monotonic() < deadline_s:
                await asyncio.sleep(0.02)
        finally:
            self._inbox.put(_Stop())
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, JOIN_S)
        self._ledger.close("stopped", STOPPED)

    async def _prompt_ids(
        self, prompt: str | None, token_ids: Iterable[int] | None, parse_special: bool
    ) -> tuple[int, ...]:
        check_prompt(prompt, token_ids, self.settings.max_prompt_chars)
        if prompt is None:
            return tuple(token_ids or ())
        assert self.loaded is not None  # it is ready
        encode = functools.partial(encode_prompt, self.loaded.tokenizer, prompt, parse_special=parse_special)
        return encode() if len(prompt) <= QUICK_PROMPT_CHARS else await asyncio.to_thread(encode)

    # For the compute thread

    def _run(self) -> None:
        try:
            loaded = open_model(
                self.settings.model,
                n_threads=self.settings.threads,
                n_batch=self.settings.batch_size,
                weights=self.settings.weights,
                progress=self._progress,
            )
            with contextlib.closing(loaded):
                engine = Engine(loaded, self.settings)
                self.loaded, self._engine = loaded, engine
                self._enter("ready")
                self._settled.set()
                self._serve(engine)
        except _LoadingStoppedError:
            pass
        except BaseException as error:
            if not isinstance(error, InputError):
                logger.error("the compute thread failed", exc_info=error)
            self.failure = error
            self._ledger.close("failed", FAILED)
        else:
            self._ledger.close("stopped", STOPPED)
        finally:
            self._settled.set()

    def _progress(self, what: str, done: int, total: int) -> None:
        self._enter("compiling" if what == "compiling" else "loading")
        if self._report is not None:
            self._report(what, done, total)

    def _enter(self, stage: Stage) -> None:
        """Go on to `stage`, unless the service is being stopped."""
        if not self._ledger.advance(stage):
            raise _LoadingStoppedError

    def _serve(self, engine: Engine) -> None:
        """Work until `_Stop` comes; then everything that is left is aborted."""
        while self._drain_inbox(engine):
            for job_id in self._ledger.deliver(engine.step()):
                engine.abort(job_id)
        for job_id in self._ledger.names():
            engine.abort(job_id)
        self._ledger.deliver(engine.step())

    def _drain_inbox(self, engine: Engine) -> bool:
        """Act on what has come in; wait for something if there is nothing to compute. False: stop."""
        while True:
            try:
                message = self._inbox.get(block=not engine.has_work)
            except queue.Empty:
                return True
            if isinstance(message, _Stop):
                return False
            if isinstance(message, _Abort):
                if self._ledger.holds(message.submission):
                    engine.abort(message.submission.job_id)
                continue
            engine.add(message.request)
            if message.submission.is_cancelled:  # while its prompt was tokenised
                engine.abort(message.request.job_id)
