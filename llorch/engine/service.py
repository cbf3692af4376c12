"""Generations for an event loop: a place in line, a mailbox of events, an orderly stop.

Requests go to the compute thread through its session's inbox; events come back through `loop.call_soon_threadsafe`,
one call for each step and loop.
"""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from llorch.engine.compute_thread import STOPPED, ComputeThread, Opener
from llorch.engine.engine import open_configured
from llorch.engine.ledger import Ledger, Stage, Submission
from llorch.engine.params import SamplingParams
from llorch.engine.request import Request, check_prompt, encode_prompt
from llorch.engine.session import Session
from llorch.engine.snapshot import EngineSnapshot
from llorch.engine.tally import StepTally
from llorch.errors import RequestError
from llorch.fields.table import FIELDS
from llorch.machine.process import OwningProcess
from llorch.observe.request_scope import current_request_id
from llorch.open_model import OpenModel
from llorch.progress import Progress, ignore_progress
from llorch.settings import Settings

QUICK_PROMPT_CHARS = 1000
"""Longer prompts are tokenised outside the event loop."""
JOIN_S = 30.0
"""How long `stop` waits for the step that is being computed."""


class EngineService:
    """Takes requests of an event loop and computes them on a `ComputeThread`.

    `start`, `wait_until_ready`, `cancel`, `release` and the properties may be used from any thread.

    Attributes:
        settings: how to run.
        ledger: which requests are open, and how the others have ended.
        compiler_wait_s: how long `stop` waits for a compiler, which cannot be interrupted. A process that ends in the
            usual way crashes if it does so meanwhile; one that ends by `os._exit` need not wait.
    """

    def __init__(
        self, settings: Settings, progress: Progress = ignore_progress, *, opener: Opener = open_configured
    ) -> None:
        """Nothing is loaded before `start`; arguments as for `ComputeThread`."""
        self.settings = settings
        self.compiler_wait_s = JOIN_S
        self._owner = OwningProcess()
        self.ledger = Ledger(settings.parallel, settings.max_waiting)
        self._thread = ComputeThread(settings, self.ledger, progress=progress, opener=opener)

    @property
    def stage(self) -> Stage:
        """What the service is doing; requests are taken while it is ``"ready"``."""
        return self.ledger.stage

    @property
    def reason(self) -> str | None:
        """Why requests will not be taken any more, for the people who send them; None before that."""
        return self.ledger.reason

    @property
    def n_open(self) -> int:
        """Requests that have not had their last event."""
        return self.ledger.n_open

    @property
    def loaded(self) -> OpenModel | None:
        """The model, once it is ready."""
        return self._thread.loaded

    @property
    def n_ctx(self) -> int:
        """Most tokens of one sequence, prompt and answer together; 0 until the model is ready."""
        return 0 if self._thread.session is None else self._thread.session.n_ctx

    @property
    def failure(self) -> BaseException | None:
        """Why the stage is ``"failed"``."""
        return self._thread.failure

    def snapshot(self) -> EngineSnapshot | None:
        """What the engine is doing; None until it is ready. Any thread may ask."""
        session = self._thread.session
        return None if session is None else session.snapshot()

    @property
    def steps(self) -> StepTally:
        """What the steps have computed; nothing until the model is ready."""
        session = self._thread.session
        return StepTally() if session is None else session.tally

    @property
    def session(self) -> Session | None:
        """Where requests go, once the model is ready."""
        return self._thread.session

    def start(self) -> None:
        """Begin to compile and load on the compute thread; returns at once."""
        self._owner = OwningProcess()
        self._thread.start()

    def wait_until_ready(self, timeout_s: float | None = None) -> None:
        """Block until requests are taken; errors as in `ComputeThread.wait_until_ready`."""
        self._owner.check()
        self._thread.wait_until_ready(timeout_s)

    def reserve(
        self,
        job_ids: Sequence[str | None],
        *,
        owner: str = "",
        timeout_s: float | None = None,
        has_begun: bool = False,
    ) -> list[Submission]:
        """Places for all generations of a request, or for none; each is for `submit` or `withdraw`.

        Args:
            job_ids: names of the generations; None: a new one.
            owner: whose request it is.
            timeout_s: seconds after which they end, counted from now; the setting `request_timeout_s` may end them
                earlier.
            has_begun: as `Ledger.reserve` has it.

        Raises:
            EngineStoppedError: the engine does not take requests (yet, or any more).
            QueueFullError: too many are waiting.
            RequestError: a name is no good, or taken.
            ForkedError: this process was forked from the one that started the service.
        """
        self._owner.check()
        given = [job_id for job_id in job_ids if job_id is not None]
        faults = [fault for job_id in given for fault in FIELDS["job_id"].python_faults(job_id)]
        if faults:
            raise RequestError(faults)
        names = [job_id or uuid.uuid4().hex for job_id in job_ids]
        places = self.ledger.reserve(names, owner, has_begun=has_begun)
        limits = [limit for limit in (timeout_s, self.settings.request_timeout_s) if limit]
        for place in places if limits else ():
            place.deadline = place.loop.call_later(min(limits), self._time_out, place)
        return places

    def withdraw(self, place: Submission) -> None:
        """Give back a place that nothing was submitted for; on its event loop's thread."""
        self.ledger.release(place)

    async def submit(
        self,
        *,
        prompt: str | None = None,
        token_ids: Sequence[int] | None = None,
        params: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        ignore_eos: bool = False,
        job_id: str | None = None,
        place: Submission | None = None,
        parse_special: bool = False,
        encode: Callable[[OpenModel], Sequence[int]] | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Submission:
        """Accept a request, or refuse it at once; places are counted before anything is tokenised.

        Args:
            prompt: text; or give `token_ids`, or `encode`.
            token_ids: the prompt as it shall be computed, BOS included.
            params: how tokens are chosen; default: the settings'.
            max_tokens: default: the settings' `n_predict`; never more than their `max_answer_tokens`.
            stop: string or strings that end the text.
            ignore_eos: never choose an end-of-generation token.
            job_id: default: a new one.
            place: from `reserve`, with its `job_id`; default: one is taken now.
            parse_special: recognise control tokens in `prompt`; not for text from strangers.
            encode: makes the prompt's ids, on another thread, once there is a place: for prompts of chats.
            options: the other fields of `Request`: `owner`, `cache_prompt`, `n_logprobs`, ...

        Raises:
            EngineStoppedError: the engine does not take requests (yet, or any more).
            QueueFullError: too many are waiting.
            RequestError: a field is wrong, with every fault; `ContextLengthError` if the prompt is too long.
            ForkedError: this process was forked from the one that started the service.
        """
        if place is None:
            [place] = self.reserve([job_id], owner=options.get("owner", ""))
        session = self._thread.session
        assert session is not None  # the stage is "ready", or there would be no place
        max_tokens = self.settings.most_tokens(self.n_ctx) if max_tokens is None else max_tokens
        if self.settings.max_answer_tokens:
            max_tokens = min(max_tokens, self.settings.max_answer_tokens)
        try:
            request = Request(
                job_id=place.job_id,
                token_ids=await self._prompt_ids(prompt, token_ids, parse_special, encode),
                params=params or SamplingParams.from_settings(self.settings),
                max_tokens=max_tokens,
                stop=FIELDS["stop"].plain(stop),
                ignore_eos=ignore_eos,
                request_id=current_request_id(),
                **options,
            )
            session.check(request)
            if request.params.has_dry:
                await asyncio.to_thread(session.prepare, request)
        except BaseException:
            self.ledger.release(place)
            raise
        place.request = request
        session.add(request)
        if place.is_cancelled:  # while its prompt was tokenised
            session.abort(request)
        elif place.is_late:
            session.time_out(request)
        return place

    def cancel(self, job_id: str, owner: str = "") -> bool:
        """End a generation within one step; its `end` event says ``"abort"``.

        Returns:
            Whether `owner` had an unfinished one of that name.
        """
        submission = self.ledger.find(job_id)
        if submission is None or submission.owner != owner:
            return False
        self.release(submission)
        return True

    def release(self, submission: Submission) -> None:
        """End the generation of `submission` if it is unfinished, because its client is gone. Idempotent."""
        if self.ledger.holds(submission):
            submission.is_cancelled = True
            if submission.request is not None and self._thread.session is not None:
                self._thread.session.abort(submission.request)

    def _time_out(self, submission: Submission) -> None:
        """End the generation of `submission`, whose deadline has passed; after it has been tokenised."""
        if self.ledger.holds(submission):
            submission.is_late = True
            if submission.request is not None and self._thread.session is not None:
                self._thread.session.time_out(submission.request)

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new requests, let the running ones finish for `grace_s`, abort the rest, end the thread.

        In a process forked from the one that started the service, there is nothing to stop.

        Args:
            grace_s: default: the settings' `shutdown_grace_s`.
        """
        if not self._owner.is_current:
            return
        self.ledger.advance("stopping")
        deadline_s = time.monotonic() + (self.settings.shutdown_grace_s if grace_s is None else grace_s)
        try:
            while self.n_open and time.monotonic() < deadline_s:
                await asyncio.sleep(0.02)
        finally:
            self._thread.stop()
        is_loading = self._thread.session is None
        await asyncio.to_thread(self._thread.join, self.compiler_wait_s if is_loading else JOIN_S)
        self.ledger.close("stopped", STOPPED)

    async def _prompt_ids(
        self,
        prompt: str | None,
        token_ids: Sequence[int] | None,
        parse_special: bool,
        encode_chat: Callable[[OpenModel], Sequence[int]] | None,
    ) -> tuple[int, ...]:
        if encode_chat is not None:
            assert self.loaded is not None  # it is ready
            return tuple(await asyncio.to_thread(encode_chat, self.loaded))
        check_prompt(prompt, token_ids, self.settings.max_prompt_chars)
        if prompt is None:
            return FIELDS["token_ids"].plain(token_ids)  # type: ignore[no-any-return]
        assert self.loaded is not None  # it is ready
        encode = functools.partial(encode_prompt, self.loaded.tokenizer, prompt, parse_special=parse_special)
        return encode() if len(prompt) <= QUICK_PROMPT_CHARS else await asyncio.to_thread(encode)
