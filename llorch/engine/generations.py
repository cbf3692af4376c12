"""The unfinished generations of an engine, and how each of them ends."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable

from llorch.engine.events import ErrorEvent, Event, FinishReason, ProgressEvent, StepEvent, TokenEvent
from llorch.engine.scheduler import Chunk, Scheduler
from llorch.engine.sequence import Sequence
from llorch.errors import ConstraintError, NumericalError

logger = logging.getLogger(__name__)

TIMED_OUT = ErrorEvent("timeout", "the request's time was over before its first token", retriable=True)


class Generations:
    """Sequences by name, and the events that have happened since they were last asked for.

    It does not know the engine: a cycle would keep a dropped model until the garbage collector runs.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        """Set up; sequences that end are taken from `scheduler`."""
        self._scheduler = scheduler
        self._sequences: dict[str, Sequence] = {}
        self._events: list[StepEvent] = []

    def __bool__(self) -> bool:
        """Whether a generation is unfinished, or an event has not been asked for."""
        return bool(self._sequences or self._events)

    def find(self, job_id: str) -> Sequence | None:
        """The unfinished generation of this name."""
        return self._sequences.get(job_id)

    def all(self) -> list[Sequence]:
        """The unfinished generations."""
        return list(self._sequences.values())

    def add(self, sequence: Sequence) -> None:
        """Take in a generation; its name must be free."""
        self._sequences[sequence.request.job_id] = sequence

    def take_events(self) -> list[StepEvent]:
        """The events since the last call, in order for each generation."""
        events, self._events = self._events, []
        return events

    def emit(self, sequence: Sequence, event: Event) -> None:
        """Note an event."""
        self._events.append(StepEvent(sequence.request.job_id, event))

    def report_progress(self, chunks: Iterable[Chunk]) -> None:
        """Note how much of their prompts has been read, for those who want to know, when `chunks` are computed."""
        for sequence, n_tokens in ((chunk.sequence, chunk.n_tokens) for chunk in chunks):
            n_done = min(sequence.n_computed + n_tokens, sequence.n_prompt)
            if sequence.request.wants_progress and n_done > sequence.n_prompt_done:
                elapsed_s = time.perf_counter() - sequence.admitted_s
                self.emit(sequence, ProgressEvent(sequence.n_prompt, sequence.n_cached, n_done, elapsed_s))

    def time_out(self, sequence: Sequence) -> None:
        """End a generation whose deadline has passed: what there is of the text is its answer, if there is some."""
        if sequence.n_generated:
            self.finish(sequence, "length", timed_out=True)
            return
        self._drop(sequence)
        self.emit(sequence, TIMED_OUT)

    def finish(self, sequence: Sequence, reason: FinishReason, *, timed_out: bool = False) -> None:
        """End a generation as it should, or because it was aborted, or because its time is over."""
        self._drop(sequence)
        request = sequence.request
        logger.debug(
            "%s ends: %s after %d tokens",
            request.job_id,
            reason,
            sequence.n_generated,
            extra=request.log_fields,
        )
        try:
            rest = sequence.text_stream.finish()
            end = sequence.end_event(reason, time.perf_counter())
        except Exception as error:
            self.fail(sequence, error)
            return
        if rest:
            self.emit(sequence, TokenEvent(sequence.n_generated, None, rest))
        self.emit(sequence, dataclasses.replace(end, timed_out=True) if timed_out else end)

    def fail(self, sequence: Sequence, error: Exception) -> None:
        """End a generation with an `ErrorEvent`; what is no fault of the model is logged."""
        self._drop(sequence, is_faulty=True)
        job_id, extra = sequence.request.job_id, sequence.request.log_fields
        code, message = "numerical_error", f"the model's output is unusable: {error}"
        if isinstance(error, ConstraintError):
            code, message = "constraint_error", str(error)
            logger.warning("%s: %s", job_id, error, exc_info=error.__cause__, extra=extra)
        elif not isinstance(error, NumericalError):
            code, message = "internal_error", "the generation failed; the log says why"
            name = type(error).__name__
            logger.error("%s failed: %s", job_id, name, exc_info=error, extra=extra)
        self.emit(sequence, ErrorEvent(code, message, retriable=False))

    def _drop(self, sequence: Sequence, *, is_faulty: bool = False) -> None:
        self._scheduler.remove(sequence, is_faulty=is_faulty)
        if self._sequences.get(sequence.request.job_id) is sequence:
            del self._sequences[sequence.request.job_id]
